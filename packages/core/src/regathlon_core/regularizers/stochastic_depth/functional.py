"""Stochastic depth as pure functions."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.ops.drop import drop_units, expected_scale
from regathlon_core.ops.sampling import sample_bernoulli


def sample_stochastic_depth(
    p: float, *, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> Tensor:
    """Draw whether a branch is dropped.

    Args:
        p: Probability that it is.
        generator: Source of randomness; None for torch's global one.
        device: Where the result lies.

    Returns:
        bool, 0-dimensional.
    """
    return sample_bernoulli((), p, generator=generator, device=device)


def stochastic_depth(branch: Tensor, p: float = 0.5, *, generator: torch.Generator | None = None) -> Tensor:
    """Drop a residual branch for the whole batch with probability ``p``, or divide it by 1-p.

    Huang et al. (2016), section 3, equation 2. Same semantics as ``torchvision.ops.stochastic_depth`` with
    ``mode="batch"``.

    Deviation: the paper leaves a kept branch as it is in training and multiplies it by 1-p in evaluation. Here it is
    divided by 1-p in training instead and evaluation is the plain model: the same method for a branch that is by the
    factor 1-p smaller, which a last batch-norm or linear layer of the branch learns.

    Args:
        branch: What is added to the shortcut, any shape and floating dtype.
        p: Probability that it is dropped, in [0, 1].
        generator: Source of randomness; None for torch's global one.

    Returns:
        Like ``branch``; ``branch`` itself where ``p`` is 0.

    Raises:
        UserError: ``p`` is no probability.

    Example:
        >>> stochastic_depth(torch.ones(2, 2), 1.0)
        tensor([[0., 0.],
                [0., 0.]])
    """
    scale = expected_scale(p)
    if p == 0:
        return branch
    return drop_units(branch, sample_stochastic_depth(p, generator=generator, device=branch.device), scale)
