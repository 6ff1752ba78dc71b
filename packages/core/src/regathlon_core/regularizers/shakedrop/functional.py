"""ShakeDrop as pure functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from regathlon_core.ops.drop import expected_scale


def sample_shakedrop(
    samples: int,
    p: float,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Draw by what a branch is multiplied on its way forward, and its gradient on the way back.

    With probability 1-p, for the whole batch, both are 1. Else they are alpha ~ U(-1, 1) and beta ~ U(0, 1), drawn
    independently, each sample on its own.

    Args:
        samples: B.
        p: Probability that the branch is shaken.
        generator: Source of randomness; None for torch's global one.
        device: Where the result lies.

    Returns:
        Two of float32 [B].
    """
    source = generator.device if generator is not None else torch.device(device)
    shaken = torch.rand((), generator=generator, device=source) < p
    alpha, beta = torch.rand(2, samples, generator=generator, device=source)
    return torch.where(shaken, 2 * alpha - 1, 1.0).to(device), torch.where(shaken, beta, 1.0).to(device)


def shakedrop(branch: Tensor, p: float = 0.5, *, generator: torch.Generator | None = None) -> Tensor:
    """Shake a residual branch with probability ``p``: other factors forward than backward.

    Yamada et al. (2019), equation 6: the branch becomes (b + alpha - b·alpha) times itself, and its gradient
    (b + beta - b·beta) times itself, with one gate b ~ Bernoulli(1-p) for the batch, and alpha ~ U(-1, 1) and beta
    ~ U(0, 1) for each sample.

    Deviation: the paper multiplies the branch by the expected factor, 1-p, in evaluation. Here both factors are
    divided by 1-p in training instead and evaluation is the plain model: the same method for a branch that is by
    the factor 1-p smaller, which the batch-norm at its end learns.

    Args:
        branch: What is added to the shortcut, [B, ...], any floating dtype; the first dimension is that of samples.
        p: Probability that it is shaken, in [0, 1).
        generator: Source of randomness; None for torch's global one.

    Returns:
        Like ``branch``; ``branch`` itself where ``p`` is 0.

    Raises:
        UserError: ``p`` is no probability.

    Example:
        >>> branch = torch.ones(3, 2, requires_grad=True)
        >>> shaken = shakedrop(branch, 0.999, generator=torch.Generator().manual_seed(0)) * (1 - 0.999)
        >>> bool((shaken.abs() <= 1.001).all()), bool((shaken[:, 0] == shaken[:, 1]).all())
        (True, True)
    """
    scale = expected_scale(p)
    if p == 0:
        return branch
    factors = sample_shakedrop(len(branch), p, generator=generator, device=branch.device)
    forward, backward = (
        (scale * factor).to(branch.dtype).view(-1, *(1,) * (branch.ndim - 1)) for factor in factors
    )
    return shake(branch, forward, backward)


def shake(x: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
    """Multiply by one factor, and the gradient by another.

    Args:
        x: Any shape and floating dtype.
        forward: Factor of the values, broadcastable to ``x``, of its dtype; a constant.
        backward: Factor of the gradient, likewise.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> shake(x, torch.tensor(-0.5), torch.tensor(0.25)).sum().backward()
        >>> x.grad
        tensor([0.2500, 0.2500])
    """
    out: Tensor = _Shake.apply(x, forward, backward)
    return out


class _Shake(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
        return x * forward

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (backward,) = ctx.saved_tensors
        return grad * backward, None, None
