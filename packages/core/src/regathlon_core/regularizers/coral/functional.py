"""The penalty of CORAL."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor


def coral_penalty(features: Sequence[Tensor], *, means: bool = True) -> Tensor:
    """Return how far the statistics of domains' features are from each other, averaged over pairs of domains.

    For a pair it is the mean squared difference of the entries of the covariances, and with ``means`` that of the
    means. Sun, Saenko: Deep CORAL, ECCV 2016 workshops, arXiv:1607.01719, equation 1, up to its factor 1/4; with means,
    as https://github.com/facebookresearch/DomainBed has it.

    Args:
        features: Of each domain, [B, C].
        means: Whether means count.

    Returns:
        Scalar, float32 at least; 0 for a single domain. A domain of one sample has a mean and no covariance.

    Example:
        >>> x = torch.eye(4)[:, :2]
        >>> coral_penalty([x, x + 1], means=True), coral_penalty([x])
        (tensor(1.), tensor(0.))
    """
    wide = [x if x.dtype == torch.float64 else x.float() for x in features]
    # Covariances by hand: torch.cov warns where there is one sample.
    centred = [x - x.mean(0) for x in wide]
    covariances = [c.T @ c / (len(c) - 1) if len(c) > 1 else None for c in centred]
    total = wide[0].sum() * 0
    pairs = list(itertools.combinations(range(len(wide)), 2))
    for first, second in pairs:
        if means:
            total = total + (wide[first].mean(0) - wide[second].mean(0)).square().mean()
        own, other = covariances[first], covariances[second]
        if own is not None and other is not None:
            total = total + (own - other).square().mean()
    return total / max(len(pairs), 1)
