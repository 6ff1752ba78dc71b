"""Random transformations of an image and its mask together, and frames of one size for both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torchvision.transforms.v2.functional as F  # type: ignore[import-untyped]
from torch import Tensor
from torchvision.tv_tensors import Image, Mask  # type: ignore[import-untyped]

DRAWS = 7
"""Random numbers that one image takes."""


@dataclass(frozen=True)
class Augmentation:
    """How far training images are transformed, each by amounts of its own, uniform in their ranges.

    Attributes:
        rotation: Largest angle either way, in degrees.
        shift: Largest shift either way, as a share of the side.
        shear: Largest angle of a horizontal shear either way, in degrees.
        zoom: Smallest and largest magnification.
        mirror: Whether half of the images are mirrored left to right.
        flip: Whether half of them are turned upside down.
    """

    rotation: float = 0.0
    shift: float = 0.0
    shear: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    mirror: bool = False
    flip: bool = False

    def __call__(
        self, image: Tensor, mask: Tensor, uniform: Sequence[float], fill: Sequence[float], ignore: int
    ) -> tuple[Tensor, Tensor]:
        """Transform an image and its mask alike (torchvision's v2 transforms).

        Args:
            image: uint8 [3, H, W].
            mask: uint8 [1, H, W].
            uniform: ``DRAWS`` random numbers in [0, 1).
            fill: Colour of what comes in from outside the image, in [0, 255].
            ignore: Label of what comes in from outside the mask.
        """
        turn, across, down, slant, large, mirror, flip = uniform
        joint = [Image(image), Mask(mask)]
        if self.rotation or self.shift or self.shear or self.zoom != (1.0, 1.0):
            height, width = image.shape[-2:]
            moved = {
                "angle": self.rotation * (2 * turn - 1),
                "translate": [
                    round(self.shift * width * (2 * across - 1)),
                    round(self.shift * height * (2 * down - 1)),
                ],
                "scale": self.zoom[0] + (self.zoom[1] - self.zoom[0]) * large,
                "shear": [self.shear * (2 * slant - 1), 0.0],
            }
            joint = [
                F.affine(joint[0], **moved, interpolation=F.InterpolationMode.BILINEAR, fill=list(fill)),
                F.affine(joint[1], **moved, fill=ignore),
            ]
        if self.mirror and mirror < 0.5:
            joint = [F.horizontal_flip(part) for part in joint]
        if self.flip and flip < 0.5:
            joint = [F.vertical_flip(part) for part in joint]
        return joint[0].as_subclass(Tensor), joint[1].as_subclass(Tensor)


def centred(pixels: Tensor, side: int, fill: Sequence[float]) -> Tensor:
    """Return the central square of an image, filled up where the image is smaller.

    Args:
        pixels: uint8 [C, H, W].
        side: Of the square.
        fill: Value of each channel beyond the image.

    Returns:
        uint8 [C, side, side].

    Example:
        >>> centred(torch.ones(1, 1, 4, dtype=torch.uint8), 2, [7]).tolist()
        [[[1, 1], [7, 7]]]
    """
    out = torch.tensor(fill).round().to(torch.uint8)[:, None, None].repeat(1, side, side)
    (into_rows, from_rows), (into_columns, from_columns) = (
        _overlap(extent, side) for extent in pixels.shape[1:]
    )
    out[:, into_rows, into_columns] = pixels[:, from_rows, from_columns]
    return out


def _overlap(extent: int, side: int) -> tuple[slice, slice]:
    """Return where in a frame, and of an image, what both share lies."""
    size = min(extent, side)
    into, start = (side - size) // 2, (extent - size) // 2
    return slice(into, into + size), slice(start, start + size)


def shrunk(pixels: Tensor, side: int, *, labels: bool) -> Tensor:
    """Return an image made smaller, where it is larger, until its longer side is ``side``; labels to the nearest."""
    longer = max(pixels.shape[1:])
    if longer <= side:
        return pixels
    size = [max(1, math.floor(extent * side / longer)) for extent in pixels.shape[1:]]
    small: Tensor = F.resize(Mask(pixels) if labels else Image(pixels), size, antialias=True)
    return small.as_subclass(Tensor)
