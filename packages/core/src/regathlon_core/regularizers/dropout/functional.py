"""Dropout as pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regathlon_core.ops.drop import drop_units, expected_scale
from regathlon_core.ops.sampling import sample_bernoulli


def sample_dropout(
    size: Sequence[int],
    p: float,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw which units to drop.

    Args:
        size: Shape of the features.
        p: Probability that a unit is dropped.
        generator: Source of randomness; None for torch's global one.
        device: Where the result lies.

    Returns:
        bool of shape ``size``, True where a unit is dropped.
    """
    return sample_bernoulli(size, p, generator=generator, device=device)


def dropout(x: Tensor, p: float = 0.5, *, generator: torch.Generator | None = None) -> Tensor:
    """Drop every unit with probability ``p`` and divide the others by 1-p.

    Srivastava et al. (2014), section 4, in its inverted form (section 10): scaled in training, so that
    evaluation is the plain model. Unlike ``torch.nn.functional.dropout`` it draws from a generator.

    Args:
        x: Any shape and floating dtype.
        p: Probability that a unit is dropped, in [0, 1].
        generator: Source of randomness; None for torch's global one.

    Returns:
        Like ``x``; ``x`` itself where ``p`` is 0.

    Raises:
        UserError: ``p`` is no probability.

    Example:
        >>> dropout(torch.ones(2, 3), 1.0)
        tensor([[0., 0., 0.],
                [0., 0., 0.]])
    """
    scale = expected_scale(p)
    if p == 0:
        return x
    return drop_units(x, sample_dropout(x.shape, p, generator=generator, device=x.device), scale)
