"""GroupDRO over a step's domains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.regularizer import Regularizer
from regathlon_core.regularizers.domains import by_domain
from regathlon_core.regularizers.group_dro.functional import group_dro_step
from regathlon_core.regularizers.group_dro.settings import GroupDROSettings
from regathlon_core.task import Batch, Task


class GroupDRO(Regularizer[GroupDROSettings]):
    """Weigh the domains' losses, those with the largest losses more from step to step.

    See ``regathlon_core.functional.group_dro_step``. A step weighs the domains that its batch holds; the others keep
    their weights' ratio to each other. No adjustment for small groups is made: batches are balanced by domain.

    Example:
        >>> from regathlon_core import Budget, GroupDRO, Recipe, fit
        >>> from regathlon_core.testing import ToyDomains
        >>> task = ToyDomains()
        >>> fit(task.model(seed=0), task, GroupDRO(), Recipe(budget=Budget(steps=2))).cost.steps
        2
    """

    Settings = GroupDROSettings

    log_weights: Tensor

    def __init__(self, settings: GroupDROSettings | None = None, /, **keywords: Any) -> None:
        super().__init__(settings, **keywords)
        self.register_buffer("log_weights", torch.zeros(0, dtype=torch.float64))

    def attach(self, model: nn.Module, task: Task | None = None) -> None:
        """Give every domain of the task the same weight.

        Raises:
            UserError: The task names no domains.
        """
        domains = task.settings.domains if task is not None else ()
        if not domains:
            raise UserError("group_dro needs a task whose settings name its domains.")
        self.log_weights = torch.zeros(len(domains), dtype=torch.float64, device=self.log_weights.device)

    def losses(
        self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the weighted sum of the domains' losses."""
        parts = by_domain(task.predict(model, batch), batch)
        losses = torch.stack([task.criterion(outputs, own) for outputs, own in parts.values()])
        present = list(parts)
        self.log_weights[present], weights = group_dro_step(
            self.log_weights[present], losses, self.settings.eta
        )
        yield (weights.to(losses.dtype) * losses).sum()
