"""Disout as pure functions."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.ops.drop import keep_scale
from regathlon_core.regularizers.dropblock.functional import sample_drop_block

NO_WEIGHT = 0.01
"""Stands for the next layer's weights where there is none."""


def sample_channel_weights(
    weight: Tensor, groups: int = 1, *, generator: torch.Generator | None = None
) -> Tensor:
    """Draw how strongly each channel is distorted, judged by the layer that reads it.

    The largest weight that a channel has in any of the layer's outputs, at each place of the kernel, with a
    random sign; averaged over the kernel. A tenth of that for a kernel of one position.

    Args:
        weight: Of a convolution [out, C / groups, *kernel] or a linear layer [out, C].
        groups: Of the convolution.
        generator: Source of randomness; None for torch's global one.

    Returns:
        float32 or float64 [C], a constant.

    Example:
        >>> sample_channel_weights(torch.tensor([[1.0, -2.0], [3.0, -4.0]])).abs()
        tensor([0.3000, 0.2000])
    """
    weight = weight.detach()
    weight = weight if weight.dtype == torch.float64 else weight.float()
    largest = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1).amax(dim=1).flatten(0, 1)
    source = generator.device if generator is not None else weight.device
    negative = (torch.rand(largest.shape, generator=generator, device=source) < 0.5).to(weight.device)
    mean = torch.where(negative, -largest, largest).mean(dim=1)
    return mean if largest.shape[1] > 1 else 0.1 * mean


def disout(
    x: Tensor,
    p: float | Tensor = 0.09,
    alpha: float = 5.0,
    block_size: int = 6,
    *,
    weights: Tensor | None = None,
    present: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Replace blocks of a feature map by noise, and rescale everything by all units over kept units.

    Tang et al. (2020), algorithm 1, as the authors' code has it: in blocks as DropBlock draws them, a unit of
    channel c becomes alpha · w_c · std(x) · N(0, 1).

    Args:
        x: [B, C, *spatial] with 1, 2 or 3 spatial dimensions, any floating dtype.
        p: Share of units to distort, in [0, 1], before overlaps. A 0-dimensional tensor on an accelerator is
            not read back.
        alpha: Strength of the distortion, at least 0.
        block_size: Side of a block, at least 1; cut to the map where that is smaller.
        weights: w, [C], as ``sample_channel_weights`` draws it; None for 0.01, where no layer reads the map.
        present: Which positions are there, bool [B, N], for the standard deviation; None for all.
        generator: Source of randomness; None for torch's global one.

    Returns:
        Like ``x``; ``x`` itself where ``p`` is 0. Distorted units pass no gradient on.

    Raises:
        UserError: An argument is out of its range.

    Example:
        >>> x = torch.randn(2, 4, 9, 12, generator=torch.Generator().manual_seed(0))
        >>> y = disout(x, 0.2, block_size=4, generator=torch.Generator().manual_seed(0))
        >>> y.shape, torch.equal(x, y)
        (torch.Size([2, 4, 9, 12]), False)
    """
    if isinstance(p, Tensor) and p.device.type == "cpu":
        p = float(p)
    if not isinstance(p, Tensor) and p == 0:
        return x
    distorted = sample_drop_block(x.shape, p, block_size, generator=generator, device=x.device)
    values = x.detach() if x.dtype == torch.float64 else x.detach().float()
    known = values if present is None else values.mT[present]
    # Of a single unit there is no deviation.
    size = alpha * known.std() if known.numel() > 1 else values.new_zeros(())
    source = generator.device if generator is not None else x.device
    noise = torch.randn(x.shape, generator=generator, device=source, dtype=values.dtype).to(x.device)
    factor = NO_WEIGHT if weights is None else weights.view(-1, *(1,) * (x.ndim - 2))
    noise = noise * (factor * size)
    return torch.where(distorted, noise.to(x.dtype), x) * keep_scale(distorted).to(x.dtype)
