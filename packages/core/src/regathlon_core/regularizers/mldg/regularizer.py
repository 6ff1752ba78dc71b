"""Meta-learning for domain generalization."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from regathlon_core.passes import PassRole, run_as
from regathlon_core.regularizer import Regularizer
from regathlon_core.regularizers.domains import Borrowing, split_by_domain, virtual_step
from regathlon_core.regularizers.mldg.settings import MLDGSettings
from regathlon_core.task import Batch, Task


class MLDG(Regularizer[MLDGSettings]):
    """Minimise the loss on some domains, and that on the one held out after a gradient step on the others.

    In every step a domain v of the batch is drawn: the loss is F(w) + beta·G(w - lr·grad F(w)), F of the other domains,
    G of v. The gradient of G runs through the virtual step, second derivatives included, unless ``first_order``.
    Only the pass on the other domains moves batch-norm's statistics. A batch of one domain is split in halves at random;
    one that is too small for it (a part of one sample) is trained on plainly.

    Source: Li, Yang, Song, Hospedales: Learning to Generalize: Meta-Learning for Domain Generalization, AAAI 2018,
    arXiv:1710.03463, Algorithm 1. DomainBed's form: https://github.com/facebookresearch/DomainBed.

    Deviations: (1) the split is drawn within the batch, whose domains are balanced; (2) the virtual step is plain gradient
    descent, without momentum or weight decay.

    Example:
        >>> from regathlon_core import MLDG, Budget, Recipe, fit
        >>> from regathlon_core.testing import ToyDomains
        >>> task = ToyDomains()
        >>> fit(task.model(seed=0), task, MLDG(), Recipe(budget=Budget(steps=2))).cost.steps
        2
    """

    Settings = MLDGSettings

    def losses(
        self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the sum of both losses."""
        parts = split_by_domain(batch, generator)
        if parts is None:
            yield task.loss(model, batch)
            return
        train, test = parts
        settings = self.settings
        loss = task.loss(model, train)
        if settings.beta > 0:
            moved = virtual_step(loss, model, settings.lr, second_order=not settings.first_order)
            with run_as(model, PassRole.SUB):
                loss = loss + settings.beta * task.loss(Borrowing(model, moved), test)
        yield loss
