"""Handwritten digits."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from regathlon_core.rng import SampleDraw
from regathlon_core.task import Batch, Split
from regathlon_data import load_digits, split_digits
from regathlon_vision import ops
from regathlon_vision.base import ImageTask
from regathlon_vision.classification.settings import DigitsSettings


class DigitsTask(ImageTask):
    """The task that ``DigitsSettings`` declares; inputs are float32 [B, 1, 8, 8].

    Training images are shifted by up to a pixel either way; digits are neither mirrored nor turned far, which
    would change what some of them are.

    Args:
        settings: The declaration.
        data: Not needed: the digits ship with ``regathlon_data``.

    Example:
        >>> task = DigitsTask()
        >>> batch = task.batch("train", torch.arange(3))
        >>> batch.inputs.shape, batch.targets.tolist()
        (torch.Size([3, 1, 8, 8]), [0, 1, 2])
    """

    view_angles = (0.0, 15.0, -15.0)

    def __init__(self, settings: DigitsSettings | None = None, data: Path | None = None) -> None:
        super().__init__(settings if settings is not None else DigitsSettings())
        digits = load_digits()
        images = torch.from_numpy(digits.images.copy())[:, None].float() / 16
        labels = torch.from_numpy(digits.labels.copy())
        indices = {split: torch.from_numpy(index) for split, index in split_digits().items()}
        self._data = {split: (images[index], labels[index]) for split, index in indices.items()}
        train = images[indices["train"]]
        self.pixel_mean, self.pixel_std = (float(train.mean()),), (float(train.std()),)

    @property
    def classes(self) -> tuple[str, ...]:
        """The ten digits."""
        return tuple("0123456789")

    @property
    def in_channels(self) -> int:
        """One: the amount of ink."""
        return 1

    def size(self, split: Split) -> int:
        """Return the number of samples."""
        return len(self._data[split][1])

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        """Return samples, shifted at random where there is a draw."""
        images, labels = (part[index] for part in self._data[split])
        if draw is not None:
            images = ops.random_shift(images, draw.uniform(index, 2, purpose="shift"), padding=1)
        return Batch(self.normalized(images), labels, index=index)
