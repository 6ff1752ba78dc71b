"""Axis-aligned boxes on a grid, one per sample, as boolean masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def box_mask(start: Tensor, stop: Tensor, spatial: Sequence[int]) -> Tensor:
    """Return where each sample's box lies; what reaches beyond the grid is cut off.

    Args:
        start: First coordinates along every axis, [B, D], any real or integer dtype.
        stop: Coordinates after the last, [B, D]; an axis with ``stop <= start`` makes the box empty.
        spatial: The D sides of the grid.

    Returns:
        bool [B, 1, *spatial], True inside, ready to be broadcast over channels.

    Example:
        >>> box_mask(torch.tensor([[-1, 1]]), torch.tensor([[1, 3]]), (2, 4))[0, 0].int()
        tensor([[0, 1, 1, 0],
                [0, 0, 0, 0]], dtype=torch.int32)
    """
    dimensions = len(spatial)
    inside = torch.ones((1,) * (dimensions + 2), dtype=torch.bool, device=start.device)
    for axis, side in enumerate(spatial):
        at = torch.arange(side, device=start.device)
        within = (at >= start[:, axis, None]) & (at < stop[:, axis, None])
        inside = inside & within.view(len(start), 1, *(side if i == axis else 1 for i in range(dimensions)))
    return inside


def centred_box(
    uniform: Tensor, sides: Sequence[int | Tensor], spatial: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return boxes of given sides around positions of the grid, as ``box_mask`` takes them.

    A box of side s around position c covers c - s//2 up to but not including c - s//2 + s, also beyond the
    grid.

    Args:
        uniform: Where the centres lie, as shares of the grid in [0, 1), [B, D].
        sides: Whole sides of the boxes, one per axis.
        spatial: The D sides of the grid.

    Returns:
        First coordinates, and those after the last, both [B, D].

    Example:
        >>> centred_box(torch.tensor([[0.5]]), [4], [10])
        (tensor([[3.]]), tensor([[7.]]))
    """
    start = torch.stack(
        [
            (uniform[:, axis] * extent).floor().clamp(max=extent - 1) - side // 2
            for axis, (side, extent) in enumerate(zip(sides, spatial, strict=True))
        ],
        dim=1,
    )
    stop = torch.stack([start[:, axis] + side for axis, side in enumerate(sides)], dim=1)
    return start, stop
