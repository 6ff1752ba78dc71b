"""Gradient signal-to-noise ratios, and the blocks they choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from regathlon_core.errors import UserError
from regathlon_core.ops.block_mask import block_gamma, block_shape, dilate_blocks
from regathlon_core.ops.drop import drop_units, keep_scale
from regathlon_core.regularizers.gsnr.settings import Ratio, Score, Variant

_POOL: Mapping[str, Mapping[int, Callable[..., Tensor]]] = {
    "mean": {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d},
    "max": {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d},
}


def gradient_snr(grads: Tensor, *, relative_epsilon: float = 1e-3) -> Tensor:
    """Return the signal-to-noise ratio of gradients over samples: squared mean over variance.

    The variance is the unbiased one. What keeps it from zero is a share of its own average, so that the ratio
    does not depend on the gradients' scale, as it does with the supplement's constant 1e-7.

    Args:
        grads: One gradient per sample, [N, *], N at least 2.
        relative_epsilon: Added to the variance, in units of the average variance.

    Returns:
        float32 (float64 for float64), [*], at least 0.

    Example:
        >>> gradient_snr(torch.tensor([[1.0, 1.0], [1.0, -1.0]])).argmax()
        tensor(0)
    """
    grads = grads if grads.dtype == torch.float64 else grads.float()
    variance, mean = torch.var_mean(grads, dim=0)
    ratio = mean.square() / (variance + relative_epsilon * variance.mean() + 1e-30)
    return ratio.nan_to_num(nan=0.0)


def choose_highest(scores: Tensor, count: int) -> Tensor:
    """Return which ``count`` entries are the highest: bool, like ``scores``; among equals, the first ones.

    Example:
        >>> choose_highest(torch.tensor([1.0, 3.0, 1.0, 1.0]), 2)
        tensor([ True,  True, False, False])
    """
    flat = scores.flatten()
    count = min(max(count, 0), len(flat))
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    threshold = flat.kthvalue(len(flat) - count + 1).values
    above, equal = flat > threshold, flat == threshold
    chosen = above | (equal & (equal.cumsum(0) <= count - above.sum()))
    return chosen.view_as(scores)


def sample_gsnr_block_mask(
    grads: Tensor,
    p: float,
    p_gsnr: float,
    block_size: int,
    *,
    ratio: Ratio = "drop",
    score: Score = "center",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Choose the blocks with the highest signal-to-noise ratio, one mask for the whole batch.

    Args:
        grads: Gradient of every sample's loss with respect to the features, [N, C, *spatial].
        p: Share to choose, in [0, 1].
        p_gsnr: Probability that a chosen block is dropped.
        block_size: Side of a block; cut to the map.
        ratio: ``"drop"``: as many blocks as would cover a share ``p`` of the map if none overlapped; ``"seed"``:
            a share ``p`` of all places.
        score: ``"center"``, ``"mean"`` or ``"max"`` of the ratios in a block.
        generator: Source of randomness.

    Returns:
        bool [1, C, *spatial], True where dropped. Nothing is dropped where there is only one sample.
    """
    channels, *spatial = grads.shape[1:]
    if len(grads) < 2:
        return grads.new_zeros((1, channels, *spatial), dtype=torch.bool)
    block = block_shape(block_size, spatial)
    ratios = gradient_snr(grads)
    if score == "center":
        inner = tuple(slice(b // 2, b // 2 + side - b + 1) for b, side in zip(block, spatial, strict=True))
        scores = ratios[(slice(None), *inner)]
    else:
        scores = _POOL[score][len(spatial)](ratios[None], block, stride=1)[0]
    share = p if ratio == "seed" else float(block_gamma(p, spatial, block))
    seeds = choose_highest(scores, round(share * scores.numel()))
    if p_gsnr < 1:
        seeds &= torch.rand(seeds.shape, generator=generator, device=seeds.device) < p_gsnr
    margins = [extent for side in reversed(block) for extent in (0, side - 1)]
    return dilate_blocks(F.pad(seeds[None], margins), block)


def gsnr_drop_block(
    x: Tensor,
    grads: Tensor,
    p: float,
    p_gsnr: float,
    block_size: int,
    *,
    ratio: Ratio = "drop",
    score: Score = "center",
    variant: Variant = "aligned",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Drop the blocks whose gradients have the highest signal-to-noise ratio and rescale the rest.

    Michalkiewicz et al.: Domain Generalization Guided by Gradient Signal to Noise Ratio of Parameters, ICCV
    2023, supplement, Listing 2 (``drop_block2d_gsnr``).

    Deviations of ``variant="aligned"``: (1) a block is centred on the gradient that chose it, where the
    listing puts its lower right corner there; (2) exactly as many blocks as asked for are chosen, where the
    listing drops everything when gradients tie at zero; (3) ``p`` is the share that is dropped, where the
    listing's chooses blocks (``ratio="seed"``); (4) the variance is guarded relative to its average; (5) even
    blocks, unequal sides and one or three dimensions work; (6) where everything is dropped the result is
    zero. ``variant="listing"`` has the listing's numbers.

    Args:
        x: Features [N, C, *spatial].
        grads: Gradients of the loss with respect to them, alike.
        p: Share to drop, in [0, 1].
        p_gsnr: Probability that a chosen block is dropped.
        block_size: Side of a block.
        ratio: See ``sample_gsnr_block_mask``; not for the listing.
        score: Likewise.
        variant: ``"aligned"`` or ``"listing"``.
        generator: Source of randomness.

    Returns:
        Like ``x``; ``x`` itself where ``p`` is 0 or there is one sample only.

    Raises:
        UserError: The shapes differ, or the listing has no answer (even block, unequal sides, p that chooses
        all).

    Example:
        >>> x, grads = torch.ones(4, 2, 6, 6), torch.randn(4, 2, 6, 6)
        >>> gsnr_drop_block(x, grads, p=0.2, p_gsnr=1.0, block_size=3).shape
        torch.Size([4, 2, 6, 6])
    """
    if x.shape[1:] != grads.shape[1:]:
        raise UserError(f"Features {tuple(x.shape)} and gradients {tuple(grads.shape)} differ in shape.")
    if p == 0 or len(grads) < 2:
        return x
    if variant == "listing":
        dropped = _listing_mask(grads, p, p_gsnr, block_size, generator)
        kept = (~dropped).to(x.dtype)
        return x * kept * (kept.numel() / (1e-6 + kept.sum()))
    dropped = sample_gsnr_block_mask(
        grads, p, p_gsnr, block_size, ratio=ratio, score=score, generator=generator
    )
    return drop_units(x, dropped, keep_scale(dropped))


def _listing_mask(
    grads: Tensor, p: float, p_gsnr: float, block_size: int, generator: torch.Generator | None
) -> Tensor:
    """Return the mask of Listing 2: the same comparisons in the same order, and the same random numbers."""
    if grads.ndim != 4 or grads.shape[2] != grads.shape[3]:
        raise UserError(
            f"Listing 2 needs square maps [N, C, H, H], not {tuple(grads.shape)}; use variant='aligned'."
        )
    channels, side = grads.shape[1], grads.shape[2]
    block = min(block_size, side)
    if block % 2 == 0:
        raise UserError(f"Listing 2 fails for blocks of even side, here {block}; use variant='aligned'.")
    places = side - block + 1
    mean, variance = grads.mean(dim=0), grads.var(dim=0)
    ratios = mean**2 / (variance + 10**-7)
    gamma = (p * side * side) / ((block**2) * (places * places))
    index = int(channels * places * places * gamma * block**2)
    if index >= ratios.numel():
        raise UserError(f"Listing 2 fails for p={p}, which chooses everything; use variant='aligned'.")
    threshold = ratios.flatten().sort(descending=True).values[index]
    window = ratios[:, block - 1 :, block - 1 :]
    coins = torch.empty((1, *window.shape), dtype=grads.dtype, device=grads.device)
    coins.bernoulli_(p_gsnr, generator=generator)
    seeds = (window >= threshold)[None] & coins.bool()
    # Padding by half a block on both sides before and after the maximum leaves blocks of this side, map-sized.
    noise = F.pad(seeds.to(grads.dtype), [block // 2] * 4)
    dilated = F.max_pool2d(noise, stride=1, kernel_size=block, padding=block // 2)
    return dilated.bool()
