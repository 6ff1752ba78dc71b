"""Mixup of a step's batch."""

from __future__ import annotations

import torch
from torch import nn

from regathlon_core.regularizer import Regularizer
from regathlon_core.regularizers.mixup.functional import mixup
from regathlon_core.regularizers.mixup.settings import MixupSettings
from regathlon_core.task import Batch, Task


class Mixup(Regularizer[MixupSettings]):
    """Average pairs of training samples and their labels. See ``regathlon_core.functional.mixup``.

    Example:
        >>> Mixup(alpha=1.0)
        Mixup(mixup(alpha=1.0))
    """

    Settings = MixupSettings

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Return the mixed batch."""
        inputs, mixed = mixup(batch.inputs, batch.targets, alpha=self.settings.alpha, generator=generator)
        return batch if mixed is None else batch.replace(inputs=inputs, mixed=mixed)
