"""Masks of contiguous blocks on a grid: the one builder that every block-dropping method uses.

A block is named by its *seed*, the corner with the smallest coordinates. Seeds lie on the *valid grid*, where
the whole block is inside the map: H-b+1 by W-b+1 places for a block of side b. Blocks therefore have the same
shape everywhere, for odd and even sides alike, and the mask has the shape of the map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from regathlon_core.errors import UserError
from regathlon_core.ops.sampling import sample_bernoulli


def block_shape(block_size: int, spatial: Sequence[int]) -> tuple[int, ...]:
    """Return the sides of a block: ``block_size``, or the map's side where that is smaller.

    Args:
        block_size: At least 1.
        spatial: Sides of the map: 1, 2 or 3 of them.

    Raises:
        UserError: The block has no size, or the map no such sides.

    Example:
        >>> block_shape(7, (14, 5))
        (7, 5)
    """
    if block_size < 1:
        raise UserError(f"block_size must be at least 1, not {block_size}.")
    if not 1 <= len(spatial) <= 3:
        raise UserError(
            "Block masks need maps [B, C, *spatial] with 1, 2 or 3 spatial dimensions; "
            f"this one has {len(spatial)}."
        )
    return tuple(min(block_size, side) for side in spatial)


def block_gamma(p: float | Tensor, spatial: Sequence[int], block: Sequence[int]) -> float | Tensor:
    """Return the probability of a seed at which a share ``p`` of the map is dropped, if no blocks overlapped.

    p·|map| / (|block|·|valid grid|), at most 1: equation 1 of Ghiasi et al. (2018), for any number of
    dimensions. Overlaps make the realised share somewhat smaller; where all blocks fit, 1-(1-gamma)^|block|
    away from the border.

    Args:
        p: Share of units to drop, in [0, 1]; a tensor stays on its device.
        spatial: Sides of the map.
        block: Sides of a block, as ``block_shape`` gives them.

    Example:
        >>> round(block_gamma(0.1, (14, 14), (7, 7)), 6)
        0.00625
    """
    places = math.prod(side - b + 1 for side, b in zip(spatial, block, strict=True))
    gamma = p * (math.prod(spatial) / (math.prod(block) * places))
    return gamma.clamp(max=1.0) if isinstance(gamma, Tensor) else min(gamma, 1.0)


def sample_seeds(
    lead: Sequence[int],
    spatial: Sequence[int],
    block: Sequence[int],
    p: float | Tensor,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw the seeds of blocks, each place with probability ``block_gamma``.

    Args:
        lead: Leading shape, such as (B, C), or (B, 1) for one mask over all channels.
        spatial: Sides of the map.
        block: Sides of a block.
        p: Share of units to drop.
        generator: Source of randomness; None for torch's global one.
        device: Where the result lies.

    Returns:
        bool [*lead, *spatial]. Those beyond the valid grid are ignored by ``dilate_blocks``.
    """
    gamma = block_gamma(p, spatial, block)
    return sample_bernoulli((*lead, *spatial), gamma, generator=generator, device=device)


def dilate_blocks(seeds: Tensor, block: Sequence[int]) -> Tensor:
    """Grow every seed on the valid grid into its block; seeds whose block would leave the map are ignored.

    Separable, and in a logarithmic number of steps: or-ing a map with itself shifted by k turns runs of k
    into runs of 2k. As no block leaves the map, a shift of the flattened array never carries one across the
    end of a row, and every step is one contiguous pass whatever the shape.

    Args:
        seeds: bool [*lead, *spatial].
        block: Sides of a block, one per spatial dimension, none larger than the map's.

    Returns:
        bool [*lead, *spatial], True where a block lies.

    Example:
        >>> dilate_blocks(torch.tensor([[True, False, False, True, False, True]]), (2,)).int()
        tensor([[1, 1, 0, 1, 1, 0]], dtype=torch.int32)
    """
    shape = seeds.shape
    spatial = shape[len(shape) - len(block) :]
    grown = (seeds & _valid_grid(spatial, block, seeds.device)).reshape(-1)
    spare = torch.empty_like(grown)
    stride = 1
    for extent, side in zip(reversed(spatial), reversed(block), strict=True):
        run = 1
        while run < side:
            step = min(run, side - run)
            shift = step * stride
            spare[:shift] = grown[:shift]
            torch.bitwise_or(grown[shift:], grown[:-shift], out=spare[shift:])
            grown, spare = spare, grown
            run += step
        stride *= extent
    return grown.view(shape)


def _valid_grid(spatial: Sequence[int], block: Sequence[int], device: torch.device) -> Tensor:
    valid = torch.zeros(tuple(spatial), dtype=torch.bool, device=device)
    valid[tuple(slice(side - b + 1) for side, b in zip(spatial, block, strict=True))] = True
    return valid


def sample_block_mask(
    lead: Sequence[int],
    spatial: Sequence[int],
    block_size: int,
    p: float | Tensor,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw a mask of blocks to drop: seeds, then their blocks.

    Args:
        lead: Leading shape, such as (B, C), or (B, 1) for one mask over all channels.
        spatial: Sides of the map: 1, 2 or 3 of them.
        block_size: Side of a block; cut to the map's side where that is smaller.
        p: Share of units to drop, in [0, 1], before overlaps.
        generator: Source of randomness; None for torch's global one.
        device: Where the result lies.

    Returns:
        bool [*lead, *spatial], True where a unit is dropped.

    Raises:
        UserError: An argument is out of its range.

    Example:
        >>> mask = sample_block_mask((8, 4), (9, 12), 4, 0.2, generator=torch.Generator().manual_seed(0))
        >>> mask.shape, bool(mask.any())
        (torch.Size([8, 4, 9, 12]), True)
    """
    block = block_shape(block_size, spatial)
    if not isinstance(p, Tensor) and not 0 <= p <= 1:
        raise UserError(f"p must be a probability in [0, 1], not {p}.")
    return dilate_blocks(sample_seeds(lead, spatial, block, p, generator=generator, device=device), block)
