"""Random blocks whose number is differentiable."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from regathlon_core.ops.block_mask import block_gamma, block_shape

_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def relaxed_blocks(
    p: Tensor, noise: Tensor, spatial: Sequence[int], block_size: int, *, temperature: float = 0.5
) -> Tensor:
    """Return how far each unit is dropped by random blocks, differentiable in the share ``p``.

    A place becomes a block's seed to the degree sigmoid((logit gamma(p) + logit u) / temperature), the relaxed
    Bernoulli variable of Maddison et al. (2017, arXiv:1611.00712); blocks spread their seed's degree by a maximum.
    Above 1/2 are exactly the units of DropBlock's mask with the same seeds.

    Args:
        p: Share to drop, 0-dimensional, in (0, 1).
        noise: Uniform in [0, 1), one number per place that a block fits at, [1, C, *places].
        spatial: Sides of the map.
        block_size: Side of a block; cut to the map.
        temperature: Above 0.

    Returns:
        [1, C, *spatial] in [0, 1], dtype of ``p``.

    Example:
        >>> relaxed_blocks(torch.tensor(0.2), torch.rand(1, 4, 5, 5), (7, 7), 3).shape
        torch.Size([1, 4, 7, 7])
    """
    block = block_shape(block_size, spatial)
    gamma = torch.as_tensor(block_gamma(p, spatial, block)).clamp(1e-6, 1 - 1e-6)
    seeds = torch.sigmoid((torch.logit(gamma) + torch.logit(noise.to(p.dtype), eps=1e-6)) / temperature)
    margins = [side - 1 for side in reversed(block) for _ in range(2)]
    degree: Tensor = _POOL[len(spatial)](F.pad(seeds, margins), block, stride=1)
    return degree


def straight_through(degree: Tensor) -> Tensor:
    """Return 1 where ``degree`` is above 1/2 and else 0, with the gradient of ``degree``."""
    hard = (degree.detach() > 0.5).to(degree.dtype)
    return hard + (degree - degree.detach())


def keep_factor(dropped_by_score: Tensor, degree: Tensor) -> Tensor:
    """Return what features are multiplied with: M1·M2 over its mean, differentiable in ``degree``.

    Args:
        dropped_by_score: bool [1, C, *spatial], True where M1 is 0.
        degree: Of random dropping, alike; M2 is 1 minus its straight-through rounding.

    Returns:
        Like ``degree``; zeros where everything is dropped.
    """
    kept = ~dropped_by_score * (1 - straight_through(degree))
    total = kept.sum()
    scale = torch.where(total > 0, kept.numel() / total.clamp(min=1e-6), torch.zeros_like(total))
    return kept * scale
