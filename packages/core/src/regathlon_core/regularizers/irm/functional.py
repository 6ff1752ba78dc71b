"""The penalty of Invariant Risk Minimization."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def irm_penalty(logits: Tensor, risk: Callable[[Tensor, Tensor], Tensor], *, halves: bool = True) -> Tensor:
    """Return how far a domain's classifier is from optimal: the squared gradient of its risk in the logits' scale.

    Arjovsky, Bottou, Gulrajani, Lopez-Paz: Invariant Risk Minimization, arXiv:1907.02893, equation 3 and appendix D;
    reference code https://github.com/facebookresearch/InvariantRiskMinimization.

    Args:
        logits: Of one domain's samples, [B, K].
        risk: Takes logits and their places, int64 [n], and returns the mean loss, a scalar.
        halves: Whether to return the product of the gradients of two halves (every other sample), whose expectation
            is the squared expected gradient; a sample alone has its square.

    Returns:
        Scalar, float32 at least; with ``halves`` it may be negative.

    Example:
        >>> logits, labels = torch.randn(6, 3), torch.arange(6) % 3
        >>> risk = lambda logits, places: torch.nn.functional.cross_entropy(logits, labels[places])
        >>> bool(irm_penalty(logits, risk, halves=False) >= 0)
        True
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    places = torch.arange(len(logits), device=logits.device)

    def slope(chosen: Tensor) -> Tensor:
        scale = torch.ones((), dtype=logits.dtype, device=logits.device, requires_grad=True)
        (grad,) = torch.autograd.grad(risk(logits[chosen] * scale, chosen), scale, create_graph=True)
        return grad

    if not halves or len(logits) < 2:
        return slope(places).square()
    return slope(places[::2]) * slope(places[1::2])
