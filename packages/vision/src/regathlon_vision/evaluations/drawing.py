"""What pictures of evaluations are made of: colours, enlargements, rows and columns of images."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import torch
from torch import Tensor

_GAP = 6


def palette(count: int) -> Tensor:
    """Return colours that are easy to tell apart: uint8 [count, 3].

    Example:
        >>> palette(3).tolist()
        [[229, 57, 57], [57, 229, 57], [57, 57, 229]]
    """
    # Beyond a dozen hues neighbours look alike, so brightness changes too.
    values = (0.9, 0.6) if count > 12 else (0.9,)
    colours = [
        colorsys.hsv_to_rgb(number / max(count, 1), 0.75, values[number % len(values)])
        for number in range(count)
    ]
    return (torch.tensor(colours).reshape(-1, 3) * 255).to(torch.uint8)


def as_bytes(pixels: Tensor) -> Tensor:
    """Return pixels in [0, 1], [3 or 1, H, W], as uint8 [3, H, W]."""
    return (pixels.clamp(0, 1) * 255).round().to(torch.uint8).expand(3, -1, -1)


def enlarged(image: Tensor, least: int) -> Tensor:
    """Return an image [C, H, W] with every pixel repeated until its longer side is at least ``least``."""
    factor = max(1, math.ceil(least / max(image.shape[-2:])))
    return image.repeat_interleave(factor, dim=-1).repeat_interleave(factor, dim=-2)


def laid_out(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Lay images of one size out in rows, on white.

    Args:
        rows: Images, uint8 [3, H, W], as many in every row.

    Returns:
        uint8 [3, H', W'].

    Example:
        >>> laid_out([[torch.zeros(3, 4, 5, dtype=torch.uint8)] * 2]).shape
        torch.Size([3, 16, 28])
    """
    height, width = rows[0][0].shape[-2:]
    sheet = torch.full(
        (3, len(rows) * (height + _GAP) + _GAP, len(rows[0]) * (width + _GAP) + _GAP), 255, dtype=torch.uint8
    )
    for number, row in enumerate(rows):
        for column, image in enumerate(row):
            top, left = _GAP + number * (height + _GAP), _GAP + column * (width + _GAP)
            sheet[:, top : top + height, left : left + width] = image
    return sheet


def heat_colours(values: Tensor) -> Tensor:
    """Return colours from blue over green to red of numbers in [0, 1]: [H, W] to [3, H, W], in [0, 1].

    Example:
        >>> heat_colours(torch.tensor([[0.0, 0.5, 1.0]])).permute(1, 2, 0).tolist()
        [[[0.0, 0.0, 0.5], [0.5, 1.0, 0.5], [0.5, 0.0, 0.0]]]
    """
    return torch.stack([(1.5 - (4 * values - peak).abs()).clamp(0, 1) for peak in (3.0, 2.0, 1.0)])
