"""DropPath as pure functions."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.ops.drop import drop_units, expected_scale
from regathlon_core.ops.sampling import sample_bernoulli


def sample_drop_path(
    samples: int,
    p: float,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw for which samples a branch is dropped.

    Args:
        samples: B.
        p: Probability that it is.
        generator: Source of randomness; None for torch's global one.
        device: Where the result lies.

    Returns:
        bool [B].
    """
    return sample_bernoulli((samples,), p, generator=generator, device=device)


def drop_path(branch: Tensor, p: float = 0.1, *, generator: torch.Generator | None = None) -> Tensor:
    """Drop a residual branch with probability ``p``, each sample on its own, and divide it by 1-p for the others.

    Larsson et al. (2017), section 3.1, in the form in which residual networks use it: of the two paths, shortcut and
    branch, only the branch is ever dropped. Same semantics as ``torchvision.ops.stochastic_depth`` with
    ``mode="row"`` and as timm's ``drop_path``.

    Args:
        branch: What is added to the shortcut, [B, ...], any floating dtype; the first dimension is that of samples.
        p: Probability that it is dropped, in [0, 1].
        generator: Source of randomness; None for torch's global one.

    Returns:
        Like ``branch``; ``branch`` itself where ``p`` is 0.

    Raises:
        UserError: ``p`` is no probability.

    Example:
        >>> rows = drop_path(torch.ones(200, 3), 0.5, generator=torch.Generator().manual_seed(0)).unique(dim=0)
        >>> rows.tolist()
        [[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]]
    """
    scale = expected_scale(p)
    if p == 0:
        return branch
    dropped = sample_drop_path(len(branch), p, generator=generator, device=branch.device)
    return drop_units(branch, dropped.view(-1, *(1,) * (branch.ndim - 1)), scale)
