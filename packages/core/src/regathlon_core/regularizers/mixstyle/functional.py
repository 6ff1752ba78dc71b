"""MixStyle as pure functions."""

from __future__ import annotations

import torch
from torch import Tensor


def sample_partners(
    count: int,
    *,
    domain: Tensor | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw a partner for every sample: by a permutation, or uniformly from the samples of other domains.

    Args:
        count: Number of samples B.
        domain: Domain of each, int64 [B]; None for a permutation. A sample without a foreign one keeps its own style.
        generator: Source of randomness; None for torch's global one.
        device: Where the result lies.

    Returns:
        int64 [B].
    """
    source = generator.device if generator is not None else torch.device(device)
    if domain is None:
        return torch.randperm(count, generator=generator, device=source).to(device)
    scores = torch.rand(count, count, generator=generator, device=source).to(device)
    foreign = domain[:, None] != domain[None]
    return torch.where(foreign.any(1), (scores + foreign).argmax(1), torch.arange(count, device=device))


def mixstyle(x: Tensor, partner: Tensor, weight: Tensor, *, present: Tensor | None = None) -> Tensor:
    """Give every sample's channels a mean and deviation between its own and its partner's.

    Zhou, Yang, Qiao, Xiang: Domain Generalization with MixStyle, ICLR 2021, arXiv:2104.02008, equations 1 to 6;
    reference code https://github.com/KaiyangZhou/mixstyle-release. Statistics run over positions and are constants.

    Args:
        x: Features [B, C, *spatial].
        partner: int64 [B].
        weight: Share of the own statistics, in [0, 1], [B].
        present: Which positions are there, bool [B, N], where samples differ in size; None for all.

    Returns:
        Like ``x``; ``x`` itself where a map is a single position, which has no style.

    Example:
        >>> x = torch.tensor([[[1.0, 3.0]], [[10.0, 30.0]]])
        >>> mixstyle(x, torch.tensor([1, 0]), torch.zeros(2)).round().flatten()
        tensor([10., 30.,  1.,  3.])
    """
    positions = x[0, 0].numel()
    if positions < 2:
        return x
    wide = (x if x.dtype == torch.float64 else x.float()).flatten(2)
    here = (
        wide.new_ones(1, 1, 1).expand(len(x), 1, positions)
        if present is None
        else present[:, None].to(wide.dtype)
    )
    constant = wide.detach()
    sizes = here.sum(2, keepdim=True)
    mean = (constant * here).sum(2, keepdim=True) / sizes.clamp(min=1)
    squares = ((constant - mean).square() * here).sum(2, keepdim=True)
    deviation = (squares / (sizes - 1).clamp(min=1) + 1e-6).sqrt()
    share = weight.to(wide.dtype)[:, None, None]
    new_mean, new_deviation = (share * own + (1 - share) * own[partner] for own in (mean, deviation))
    return ((wide - mean) / deviation * new_deviation + new_mean).to(x.dtype).view_as(x)
