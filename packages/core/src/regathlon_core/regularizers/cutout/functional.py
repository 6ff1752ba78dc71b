"""Cutout as pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regathlon_core.errors import UserError
from regathlon_core.ops.boxes import box_mask, centred_box
from regathlon_core.ops.sampling import sample_uniform


def sample_cutout(
    size: Sequence[int],
    length: int,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw a square per sample, its centre uniform over the positions.

    Args:
        size: Shape of the inputs, (B, C, *spatial).
        length: Side of the square in positions.
        generator: Source of randomness; None for torch's global one.
        device: Where the result lies.

    Returns:
        bool [B, 1, *spatial], True inside.
    """
    batch, _, *spatial = size
    uniform = sample_uniform((batch, len(spatial)), generator=generator, device=device)
    start, stop = centred_box(uniform, [length] * len(spatial), spatial)
    return box_mask(start, stop, spatial)


def cutout(x: Tensor, length: int, *, fill: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """Blank one square of every input; squares reach over the border, so what is hidden varies in size.

    DeVries and Taylor (2017), section 3.2; reference code https://github.com/uoguelph-mlrg/Cutout. Deviation:
    squares of odd side have that side, where the reference loses a row and a column to integer division.

    Args:
        x: [B, C, *spatial]; a square is a span in one dimension, a cube in three.
        length: Side in positions, at least 0; it may exceed the input.
        fill: Value written.
        generator: Source of randomness; None for torch's global one.

    Returns:
        A copy of ``x`` with squares blanked; ``x`` itself where ``length`` is 0.

    Raises:
        UserError: ``length`` is negative.

    Example:
        >>> y = cutout(torch.ones(1, 3, 8, 8), 3, generator=torch.Generator().manual_seed(0))
        >>> 4 <= int((y[0, 0] == 0).sum()) <= 9
        True
    """
    if length < 0:
        raise UserError(f"Cutout's length must be at least 0, not {length}.")
    if length == 0:
        return x
    return x.masked_fill(sample_cutout(x.shape, length, generator=generator, device=x.device), fill)
