"""Cutout of a step's inputs."""

from __future__ import annotations

import torch
from torch import nn

from regathlon_core.regularizer import Regularizer
from regathlon_core.regularizers.cutout.functional import cutout
from regathlon_core.regularizers.cutout.settings import CutoutSettings
from regathlon_core.task import Batch, Task


class Cutout(Regularizer[CutoutSettings]):
    """Blank one square of every training input. See ``regathlon_core.functional.cutout``.

    Example:
        >>> Cutout(size=0.25)
        Cutout(cutout(size=0.25))
    """

    Settings = CutoutSettings

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Return the batch with squares blanked."""
        length = round(self.settings.size * min(batch.inputs.shape[2:]))
        inputs = cutout(batch.inputs, length, fill=self.settings.fill, generator=generator)
        return batch if inputs is batch.inputs else batch.replace(inputs=inputs)
