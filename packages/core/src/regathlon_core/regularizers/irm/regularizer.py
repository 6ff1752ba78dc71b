"""Invariant Risk Minimization of a step's domains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.regularizer import Regularizer
from regathlon_core.regularizers.domains import by_domain, take
from regathlon_core.regularizers.irm.functional import irm_penalty
from regathlon_core.regularizers.irm.settings import IRMSettings
from regathlon_core.task import Batch, Task


class IRM(Regularizer[IRMSettings]):
    """Penalise a classifier that could do better in a domain by another scale of its logits.

    The loss is the batch's own plus the mean of the domains' penalties, see ``regathlon_core.functional.irm_penalty``.
    For the first ``anneal`` of the training the penalty's weight is at most 1.

    Deviations: (1) the risk is the batch's mean, equal to the mean over domains where batches are balanced; (2) where
    DomainBed starts Adam anew once the penalty is annealed, the loss is divided by the weight, as in the authors' code.

    Example:
        >>> from regathlon_core import IRM, Budget, Recipe, fit
        >>> from regathlon_core.testing import ToyDomains
        >>> task = ToyDomains()
        >>> fit(task.model(seed=0), task, IRM(), Recipe(budget=Budget(steps=2))).cost.steps
        2
    """

    Settings = IRMSettings

    progress: Tensor

    def __init__(self, settings: IRMSettings | None = None, /, **keywords: Any) -> None:
        super().__init__(settings, **keywords)
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))

    def losses(
        self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the loss with its penalty."""
        outputs = task.predict(model, batch)
        loss = task.criterion(outputs, batch)
        settings = self.settings
        weight = settings.weight if float(self.progress) >= settings.anneal else min(settings.weight, 1.0)
        if weight == 0:
            yield loss
            return
        halves = settings.estimator == "halves"
        penalties = []
        for logits, own in by_domain(outputs, batch).values():

            def risk(scaled: Tensor, places: Tensor, own: Batch = own) -> Tensor:
                return task.criterion(scaled, take(own, places))

            penalties.append(irm_penalty(logits, risk, halves=halves))
        loss = loss + weight * torch.stack(penalties).mean()
        yield loss / weight if settings.rescale and weight > 1 else loss

    def after_step(self, progress: float) -> None:
        """Move the annealing on."""
        self.progress.fill_(progress)
