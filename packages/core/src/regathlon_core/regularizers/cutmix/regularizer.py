"""CutMix of a step's batch."""

from __future__ import annotations

import torch
from torch import nn

from regathlon_core.regularizer import Regularizer
from regathlon_core.regularizers.cutmix.functional import cutmix
from regathlon_core.regularizers.cutmix.settings import CutMixSettings
from regathlon_core.task import Batch, Task


class CutMix(Regularizer[CutMixSettings]):
    """Paste a box of another training sample, labels in proportion. See ``regathlon_core.functional.cutmix``.

    Example:
        >>> CutMix(p=0.5)
        CutMix(cutmix(p=0.5))
    """

    Settings = CutMixSettings

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Return the mixed batch."""
        settings = self.settings
        inputs, mixed = cutmix(
            batch.inputs, batch.targets, p=settings.p, alpha=settings.alpha, generator=generator
        )
        return batch if mixed is None else batch.replace(inputs=inputs, mixed=mixed)
