"""Metrics of image classification with many classes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from regathlon_core.metrics import ConfusionMetrics
from regathlon_core.task import Batch


class TopFiveMetrics(ConfusionMetrics):
    """Besides accuracies, ``top5_accuracy``: how often the true class is among the five most likely ones.

    Args:
        classes: Number of classes K, at least 5.
        ignore_index: Label of samples that do not count.
    """

    def __init__(self, classes: int, *, ignore_index: int = -100) -> None:
        super().__init__(classes, ignore_index=ignore_index)
        self._hits = self._count = 0

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Count logits [B, K] against labels [B]."""
        super().update(outputs, batch)
        counted = batch.targets != self.ignore_index
        best = outputs[counted].topk(5, dim=1).indices
        self._hits += int((best == batch.targets[counted, None]).sum())
        self._count += int(counted.sum())

    def compute(self) -> Mapping[str, float]:
        """Return the metrics; NaN where nothing was counted."""
        return {
            **super().compute(),
            "top5_accuracy": self._hits / self._count if self._count else float("nan"),
        }
