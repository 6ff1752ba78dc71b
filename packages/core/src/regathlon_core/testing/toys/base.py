"""What the toy tasks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from regathlon_core.metrics import ConfusionMetrics, Metrics
from regathlon_core.rng import SampleDraw, global_stream
from regathlon_core.settings import TaskSettings
from regathlon_core.task import Batch, Split, Task

SPLITS: Mapping[Split, int | None] = {"train": None, "val": 24, "test": 24}
"""Samples of each split; None for the number that the settings give."""


class ToyTask(Task):
    """A task whose samples are tensors in memory; its models end in a layer named ``head``.

    Args:
        settings: The declaration.
        data: Inputs and targets of every split, both with the samples along the first dimension.
    """

    def __init__(self, settings: TaskSettings, data: Mapping[Split, tuple[Tensor, Tensor]]) -> None:
        super().__init__(settings)
        self._data = data

    def size(self, split: Split) -> int:
        """Return the number of samples."""
        return len(self._data[split][1])

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        """Return samples, augmented where there is a draw."""
        inputs, targets = (part[index] for part in self._data[split])
        if draw is not None:
            inputs = self.augment(inputs, index, draw)
        return Batch(inputs, targets, index=index)

    def augment(self, inputs: Tensor, index: Tensor, draw: SampleDraw) -> Tensor:
        """Return augmented inputs; the default leaves them as they are."""
        return inputs

    def metrics(self) -> Metrics:
        """Return accuracy."""
        return ConfusionMetrics(len(self.classes), ignore_index=self.ignore_index)

    def output_layers(self, model: nn.Module) -> Sequence[str]:
        """Return the classifier."""
        return ("head",)

    def model(self, seed: int) -> nn.Module:
        """Return a freshly initialised model."""
        with global_stream(seed, "init"):
            return self.settings.models[0]().build(self)


def stack_splits(
    parts: Mapping[Split, Sequence[tuple[Tensor, int | Tensor]]],
) -> dict[Split, tuple[Tensor, Tensor]]:
    """Stack (input, target) pairs of every split."""
    return {
        split: (
            torch.stack([inputs for inputs, _ in samples]),
            torch.stack([torch.as_tensor(target) for _, target in samples]),
        )
        for split, samples in parts.items()
    }
