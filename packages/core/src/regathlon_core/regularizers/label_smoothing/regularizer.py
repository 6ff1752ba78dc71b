"""Label smoothing of a step's loss."""

from __future__ import annotations

import torch
from torch import nn

from regathlon_core.regularizer import Regularizer
from regathlon_core.regularizers.label_smoothing.settings import LabelSmoothingSettings
from regathlon_core.task import Batch, Task


class LabelSmoothing(Regularizer[LabelSmoothingSettings]):
    """Spread a share of every training label over all classes (``functional.label_smoothing``).

    It says so in ``Batch.smoothing``, which the task's loss reads, and replaces the task's own smoothing if
    it has any.

    Example:
        >>> LabelSmoothing(smoothing=0.2)
        LabelSmoothing(label_smoothing(smoothing=0.2))
    """

    Settings = LabelSmoothingSettings

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Return the batch with smoothed labels."""
        smoothing = self.settings.smoothing
        return batch.replace(smoothing=smoothing) if smoothing else batch
