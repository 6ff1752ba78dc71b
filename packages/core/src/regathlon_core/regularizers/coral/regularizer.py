"""CORAL on a model's features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.features import FeaturePoint
from regathlon_core.regularizer import FeatureRegularizer
from regathlon_core.regularizers.coral.functional import coral_penalty
from regathlon_core.regularizers.coral.settings import CORALSettings
from regathlon_core.regularizers.domains import places_by_domain
from regathlon_core.task import Batch, Task


class CORAL(FeatureRegularizer[CORALSettings]):
    """Penalise domains whose features differ in mean and covariance. See ``regathlon_core.functional.coral_penalty``.

    Features are averaged over positions; several places' penalties are added. As a layer of one's own it does nothing.

    Example:
        >>> from regathlon_core import CORAL, Budget, Recipe, fit
        >>> from regathlon_core.testing import ToyDomains
        >>> task = ToyDomains()
        >>> fit(task.model(seed=0), task, CORAL(), Recipe(budget=Budget(steps=2))).cost.steps
        2
    """

    Settings = CORALSettings

    def __init__(self, settings: CORALSettings | None = None, /, **keywords: Any) -> None:
        super().__init__(settings, **keywords)
        self._seen: list[Tensor] | None = None

    def usual(self, points: Sequence[FeaturePoint]) -> Sequence[FeaturePoint]:
        """Return the last of the task's default places."""
        return points[-1:]

    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        """Note the features' averages; they stay as they are."""
        if self._seen is not None:
            wide = (x if x.dtype == torch.float64 else x.float()).flatten(2)
            sizes = wide[0, 0].numel() if self.present is None else self.present.sum(1, keepdim=True)
            self._seen.append(wide.sum(2) / sizes)
        return x

    def losses(
        self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the loss with its penalty."""
        weight = self.settings.weight
        self._seen = [] if weight > 0 else None
        try:
            outputs = task.predict(model, batch)
            seen = self._seen or []
        finally:
            self._seen = None
        loss = task.criterion(outputs, batch)
        places = list(places_by_domain(batch).values())
        for features in seen:
            loss = loss + weight * coral_penalty([features[own] for own in places], means=self.settings.means)
        yield loss
