"""Mixup as pure functions."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.errors import UserError
from regathlon_core.ops.sampling import sample_beta, sample_permutation
from regathlon_core.task import Mixed


def sample_mixup(
    batch: int,
    alpha: float,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Draw partners and the weight of the own sample.

    Args:
        batch: Number of samples B.
        alpha: Both shapes of the Beta distribution, above 0.
        generator: Source of randomness; None for torch's global one.
        device: Where the results lie.

    Returns:
        Partners, a permutation, int64 [B]; and the weight, one for the batch, float32 in [0, 1].
    """
    weight = sample_beta(alpha, alpha, generator=generator, device=device)
    return sample_permutation(batch, generator=generator, device=device), weight


def mix_inputs(x: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """Return weight·x + (1-weight)·x[partner], computed in single precision at least, in the dtype of ``x``.

    Args:
        x: [B, ...], floating.
        partner: int64 [B].
        weight: 0-dimensional.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    return torch.lerp(wide[partner], wide, weight.to(wide.dtype)).to(x.dtype)


def mixup(
    x: Tensor, targets: Tensor, *, alpha: float = 0.2, generator: torch.Generator | None = None
) -> tuple[Tensor, Mixed | None]:
    """Average every sample with another of the batch, with one random weight.

    Zhang et al. (2018), equation 2; reference code https://github.com/facebookresearch/mixup-cifar10. The
    labels stay a pair and a weight: weight·CE(own) + (1-weight)·CE(partner) equals the cross-entropy with the
    averaged labels.

    Args:
        x: [B, C, *spatial], floating.
        targets: Class labels, int64 [B].
        alpha: Both shapes of the Beta distribution, at least 0.
        generator: Source of randomness; None for torch's global one.

    Returns:
        The mixed inputs, and the partners' labels with the weight of the own; ``x`` itself and None where
        alpha is 0.

    Raises:
        UserError: ``alpha`` is negative.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> y, mixed = mixup(torch.eye(4)[:, None], torch.arange(4), alpha=1.0, generator=generator)
        >>> y.shape, mixed.targets.shape, mixed.weight.shape
        (torch.Size([4, 1, 4]), torch.Size([4]), torch.Size([4]))
    """
    if not alpha >= 0:
        raise UserError(f"alpha must be at least 0, not {alpha}.")
    if alpha == 0:
        return x, None
    partner, weight = sample_mixup(len(x), alpha, generator=generator, device=x.device)
    return mix_inputs(x, partner, weight), Mixed(targets[partner], weight.repeat(len(x)))
