"""Axis-aligned boxes on a grid, one per sample, as boolean masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from regathlon_core.ops.sampling import sample_uniform

TRIES = 100
"""Shapes drawn for a box before a sample goes without."""


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


def sample_box_sides(
    batch: int,
    spatial: Sequence[int],
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
    log_aspect: bool,
    whole: bool = True,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Draw a box of random area and aspect for every sample, trying until it fits.

    All tries of all samples are drawn at once and each sample takes its first that fits, which is what trying one
    after the other does.

    Args:
        batch: B.
        spatial: The D sides of the grid.
        area: Smallest and largest share of the grid.
        aspect: Smallest and largest height over width.
        log_aspect: Whether aspects are uniform in the logarithm.
        whole: Whether a box may be as long as the grid.
        generator: Source of randomness; None for torch's global one.
        device: Where the result lies.

    Returns:
        Whole sides, float [B, D], and whether any try fitted, bool [B].
    """
    uniform = sample_uniform((batch, TRIES, len(spatial)), generator=generator, device=device)
    sides = _sides(uniform, spatial, area, aspect, log_aspect)
    extent = torch.tensor(spatial, device=sides.device)
    fits = ((sides > 0) & (sides <= extent if whole else sides < extent)).all(dim=2)
    first = fits.to(torch.uint8).argmax(dim=1)
    chosen = sides.gather(1, first[:, None, None].expand(-1, 1, len(spatial)))[:, 0]
    return chosen, fits.any(dim=1)


def _sides(
    uniform: Tensor,
    spatial: Sequence[int],
    area: tuple[float, float],
    aspect: tuple[float, float],
    log_aspect: bool,
) -> Tensor:
    """Return whole sides [B, tries, D] from D numbers each: one for the area, the others for aspects."""
    volume = (area[0] + (area[1] - area[0]) * uniform[..., :1]) * math.prod(spatial)
    low, high = (math.log(bound) for bound in aspect) if log_aspect else aspect
    ratio = low + (high - low) * uniform[..., 1:]
    log_ratio = ratio if log_aspect else ratio.log()
    # Every axis but the last has an aspect against the last; without their geometric mean the volume stays.
    log_ratio = torch.cat([log_ratio, torch.zeros_like(volume)], dim=-1)
    shape = (log_ratio - log_ratio.mean(dim=-1, keepdim=True)).exp()
    return (volume ** (1 / len(spatial)) * shape).round()
