"""Where to occlude, given relevance."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.ops.boxes import box_mask, sample_box_sides
from regathlon_core.ops.sampling import sample_uniform


def normalized_relevance(relevance: Tensor, group: Tensor | None = None) -> Tensor:
    """Scale every sample's relevance to [0, 1]: 0 for the least relevant position, 1 for the most; 0 where all are equal.

    Args:
        relevance: [B, *positions]; or [N] with ``group``.
        group: The sample (graph) of each position, int64 [N] rising from 0.

    Example:
        >>> normalized_relevance(torch.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]]))
        tensor([[0.0000, 1.0000, 0.5000],
                [0.0000, 0.0000, 0.0000]])
    """
    if group is not None:
        samples = int(group.max()) + 1
        low, high = (
            relevance.new_zeros(samples).scatter_reduce(0, group, relevance, how, include_self=False)[group]
            for how in ("amin", "amax")
        )
    else:
        flat = relevance.flatten(1)
        shape = (-1, *(1,) * (relevance.ndim - 1))
        low, high = flat.amin(1).view(shape), flat.amax(1).view(shape)
    span = high - low
    return torch.where(span > 0, (relevance - low) / torch.where(span > 0, span, 1.0), 0.0)


def sample_relevant_positions(
    relevance: Tensor,
    alpha: float,
    beta: float,
    *,
    group: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw single positions to occlude, the relevant ones more often.

    A position is chosen where alpha·u + (1-alpha)·r >= 1-beta, u uniform in [0, 1) and r its relevance scaled
    to [0, 1]; so with probability clip((alpha + (1-alpha)·r - (1-beta)) / alpha, 0, 1). With alpha = 1
    relevance does not matter and the rate is beta.

    Args:
        relevance: [B, *positions]; or [N] with ``group``.
        alpha: In [0, 1].
        beta: In [0, 1].
        group: The sample of each position, for graphs.
        generator: Source of randomness.

    Returns:
        bool, like ``relevance``.

    Example:
        >>> sample_relevant_positions(torch.tensor([[0.0, 1.0]]), alpha=0.0, beta=0.5)
        tensor([[False,  True]])
    """
    chance = sample_uniform(relevance.shape, generator=generator, device=relevance.device)
    score = alpha * chance + (1 - alpha) * normalized_relevance(relevance, group).to(chance.dtype)
    return score >= 1 - beta


def sample_relevant_blocks(
    relevance: Tensor,
    *,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
    centers: int = 1,
    blocks: int = 1,
    alpha: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw a box per sample around its most relevant position; what reaches beyond the grid is cut off.

    With several, each takes its share of the area and is put around the most relevant position that the ones
    before it left uncovered.

    Args:
        relevance: [B, *positions], 1, 2 or 3 dimensions of positions.
        area: Smallest and largest share of the grid.
        aspect: Smallest and largest height over width, uniform in the logarithm.
        centers: The centre is one of so many most relevant positions.
        blocks: How many boxes.
        alpha: Probability that the centre is any position instead.
        generator: Source of randomness.

    Returns:
        bool, like ``relevance``; nothing for a sample on whose grid no box fits.

    Example:
        >>> relevance = torch.zeros(1, 9, 9)
        >>> relevance[0, 4, 6] = 1
        >>> bool(sample_relevant_blocks(relevance)[0, 4, 6])
        True
    """
    low, high = area
    left, where = relevance, torch.zeros_like(relevance, dtype=torch.bool)
    for _ in range(blocks):
        where = where | _block(left, (low / blocks, high / blocks), aspect, centers, alpha, generator)
        left = relevance.masked_fill(where, -torch.inf)
    return where


def _block(
    relevance: Tensor,
    area: tuple[float, float],
    aspect: tuple[float, float],
    centers: int,
    alpha: float,
    generator: torch.Generator | None,
) -> Tensor:
    batch, *spatial = relevance.shape
    device = relevance.device
    side, fits = sample_box_sides(
        batch,
        spatial,
        area=area,
        aspect=aspect,
        log_aspect=True,
        whole=False,
        generator=generator,
        device=device,
    )
    flat = relevance.flatten(1)
    count = min(centers, flat.shape[1])
    place, rank, coin = sample_uniform((3, batch), generator=generator, device=device)
    best = flat.topk(count, dim=1).indices.gather(1, (rank * count).long().clamp_(max=count - 1)[:, None])[
        :, 0
    ]
    anywhere = (place * flat.shape[1]).long().clamp_(max=flat.shape[1] - 1)
    centre = torch.stack(torch.unravel_index(torch.where(coin < alpha, anywhere, best), spatial), dim=1)
    start = centre - side // 2  # the authors' rounding, half to even, can leave the centre outside
    stop = torch.where(fits[:, None], start + side, start)
    return box_mask(start, stop, spatial)[:, 0]
