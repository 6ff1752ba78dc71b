"""Scenes of handwritten digits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from regathlon_core.rng import SampleDraw
from regathlon_core.task import Batch, Split
from regathlon_data import digit_scenes
from regathlon_vision import ops
from regathlon_vision.base import ImageTask
from regathlon_vision.segmentation.settings import ScenesSettings

_SHIFT = 4.0  # pixels
_ZOOM = 1.1  # magnification, and one over it
_TURN = math.radians(5)


class ScenesTask(ImageTask):
    """The task that ``ScenesSettings`` declares; inputs are float32 [B, 3, 32, 32], labels int64 [B, 32, 32].

    Label 0 is the background, 1 to 10 are the digits 0 to 9; 255, on the faded edges of strokes, does not
    count. Training scenes are scaled, turned and shifted a little, images and labels alike.

    Args:
        settings: The declaration.
        data: Not needed: the digits ship with ``regathlon_data``.

    Example:
        >>> task = ScenesTask()
        >>> batch = task.batch("val", torch.arange(2))
        >>> batch.inputs.shape, batch.targets.shape, task.classes[:3]
        (torch.Size([2, 3, 32, 32]), torch.Size([2, 32, 32]), ('background', '0', '1'))
    """

    ignore_index = 255
    dense = True
    view_angles: ClassVar[tuple[float, ...]] = (0.0, 15.0, -15.0)

    def __init__(self, settings: ScenesSettings | None = None, data: Path | None = None) -> None:
        super().__init__(settings if settings is not None else ScenesSettings())
        scenes = {split: digit_scenes(split) for split in ("train", "val", "test")}
        self._data = {
            split: (
                torch.from_numpy(part.images.copy()).permute(0, 3, 1, 2).contiguous(),
                torch.from_numpy(part.masks.copy()),
            )
            for split, part in scenes.items()
        }
        train = self._data["train"][0].float()
        self._mean = train.mean(dim=(0, 2, 3), keepdim=True)
        self._std = train.std(dim=(0, 2, 3), keepdim=True)

    @property
    def classes(self) -> tuple[str, ...]:
        """The background and the ten digits."""
        return ("background", *"0123456789")

    @property
    def in_channels(self) -> int:
        """Red, green and blue."""
        return 3

    def size(self, split: Split) -> int:
        """Return the number of scenes."""
        return len(self._data[split][1])

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        """Return scenes, transformed at random where there is a draw."""
        images, masks = (part[index] for part in self._data[split])
        inputs = (images - self._mean) / self._std
        if draw is not None:
            inputs, masks = _augment(inputs, masks, draw.uniform(index, 4, purpose="affine"))
        return Batch(inputs, masks.long(), index=index)


def _augment(images: Tensor, masks: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Transform images and masks alike; what comes in from outside is the scene mirrored at its border."""
    signed = uniform * 2 - 1
    scale, angle, shift = _ZOOM ** signed[:, 0], _TURN * signed[:, 1], _SHIFT * signed[:, 2:]
    images = ops.affine(images, scale, angle, shift, border="reflection")
    masks = ops.affine(masks[:, None], scale, angle, shift, mode="nearest", border="reflection")[:, 0]
    return images, masks
