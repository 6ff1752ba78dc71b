"""DropBlock as pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regathlon_core.ops.block_mask import sample_block_mask
from regathlon_core.ops.drop import drop_units, keep_scale


def sample_drop_block(
    size: Sequence[int],
    p: float | Tensor,
    block_size: int,
    *,
    per_channel: bool = True,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw the blocks to drop.

    Args:
        size: Shape of the features, (B, C, *spatial) with 1, 2 or 3 spatial dimensions.
        p: Share of units to drop.
        block_size: Side of a block.
        per_channel: Whether every channel has blocks of its own.
        generator: Source of randomness; None for torch's global one.
        device: Where the result lies.

    Returns:
        bool, True where dropped: [B, C, *spatial], or [B, 1, *spatial] for shared channels.
    """
    batch, channels, *spatial = size
    lead = (batch, channels if per_channel else 1)
    return sample_block_mask(lead, spatial, block_size, p, generator=generator, device=device)


def drop_block(
    x: Tensor,
    p: float | Tensor = 0.1,
    block_size: int = 7,
    *,
    per_channel: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Drop contiguous blocks of a feature map and rescale the rest by all units over kept units.

    Ghiasi et al. (2018), algorithm 1 and equation 1; for 1, 2 or 3 spatial dimensions, blocks of even side,
    maps of unequal sides and blocks larger than the map. Same semantics as ``torchvision.ops.drop_block2d``
    for odd blocks.

    Deviations: (1) blocks are named by their corner, not by their centre, which for odd sides is the same set
        of
    blocks and for even ones the only consistent choice; (2) a block is cut to the map side by side; (3) where
    everything is dropped the result is zero instead of a division by zero.

    Args:
        x: [B, C, *spatial], any floating dtype.
        p: Share of units to drop, in [0, 1], before overlaps. A 0-dimensional tensor on an accelerator is not
            read back.
        block_size: Side of a block, at least 1.
        per_channel: Whether every channel has blocks of its own (the better variant in the paper).
        generator: Source of randomness; None for torch's global one.

    Returns:
        Like ``x``; ``x`` itself where ``p`` is 0.

    Raises:
        UserError: An argument is out of its range.

    Example:
        >>> y = drop_block(torch.ones(2, 4, 9, 12), 0.2, 4, generator=torch.Generator().manual_seed(0))
        >>> bool((y == 0).any()), abs(float(y.mean()) - 1) < 1e-6
        (True, True)
    """
    if isinstance(p, Tensor) and p.device.type == "cpu":
        p = float(p)
    if not isinstance(p, Tensor) and p == 0:
        return x
    dropped = sample_drop_block(
        x.shape, p, block_size, per_channel=per_channel, generator=generator, device=x.device
    )
    return drop_units(x, dropped, keep_scale(dropped))
