"""Metrics from a confusion matrix, accumulated over batches.

torchmetrics would take 15 s to import in every worker; these need only ``torch.bincount``. The tests hold
them against scikit-learn.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from regathlon_core.task import Batch


class Metrics(abc.ABC):
    """Accumulates what batches say about a model."""

    @abc.abstractmethod
    def update(self, outputs: Any, batch: Batch) -> None:
        """Count one batch."""

    @abc.abstractmethod
    def compute(self) -> Mapping[str, float]:
        """Return all metrics so far."""


class ConfusionMetrics(Metrics):
    """Metrics of class predictions: of samples, nodes, points or pixels.

    Args:
        classes: Number of classes K.
        ignore_index: Label of positions that do not count.
        dense: Whether to report segmentation's metrics (mIoU, Dice) instead of classification's.

    The metrics are fractions in [0, 1]:

    * ``accuracy``: correct predictions over all.
    * ``class_accuracy``: recall averaged over the classes that occur.
    * ``miou``, ``dice`` (dense): intersection over union, and 2·intersection over the sum of both sizes,
      averaged over the classes that occur in the labels or the predictions.
    """

    def __init__(self, classes: int, *, ignore_index: int = -100, dense: bool = False) -> None:
        self.classes = classes
        self.ignore_index = ignore_index
        self.dense = dense
        self.matrix = torch.zeros(classes, classes, dtype=torch.int64)

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Count logits [B, K, *] against labels [B, *]."""
        predicted = outputs.argmax(dim=1).flatten()
        targets = batch.targets.flatten()
        counted = targets != self.ignore_index
        pairs = targets[counted] * self.classes + predicted[counted]
        counts = torch.bincount(pairs, minlength=self.classes**2)
        self.matrix += counts.reshape(self.classes, self.classes).cpu()

    def compute(self) -> Mapping[str, float]:
        """Return the metrics; NaN where nothing was counted."""
        matrix = self.matrix.double()
        hit, labelled, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        values = {
            "accuracy": hit.sum() / matrix.sum(),
            "class_accuracy": (hit / labelled)[labelled > 0].mean(),
        }
        if self.dense:
            occurs = labelled + predicted > 0
            values["miou"] = (hit / (labelled + predicted - hit))[occurs].mean()
            values["dice"] = (2 * hit / (labelled + predicted))[occurs].mean()
        return {name: float(value) for name, value in values.items()}
