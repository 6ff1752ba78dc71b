"""Random draws from an explicit generator, on the device that the generator draws on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# Below this probability it is cheaper on a CPU to place the few ones than to draw a number per element.
_SPARSE = 0.1


def sample_bernoulli(
    size: Sequence[int],
    p: float | Tensor,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw independent booleans that are True with probability ``p``.

    On a CPU, rare events are placed instead of tested for: a Poisson number of darts with mean -n·log(1-p)
    lands uniformly on the n elements, and each is hit at least once with probability exactly p, independently
    of the others (thinning of a Poisson process).

    Args:
        size: Shape of the result.
        p: Probability in [0, 1]; a 0-dimensional tensor is not read back from its device.
        generator: Source of randomness; None for torch's global one.
        device: Where the result lies. The draw is made where the generator draws.

    Returns:
        bool tensor of shape ``size``.

    Example:
        >>> drawn = sample_bernoulli((1000, 100), 0.05, generator=torch.Generator().manual_seed(0))
        >>> drawn.dtype, abs(float(drawn.double().mean()) - 0.05) < 0.005
        (torch.bool, True)
    """
    source = generator.device if generator is not None else torch.device(device)
    if source.type != "cpu":
        drawn = torch.rand(tuple(size), generator=generator, device=source) < p
    elif (probability := float(p)) < _SPARSE:
        drawn = _place(math.prod(size), probability, generator).view(tuple(size))
    else:
        drawn = torch.rand(tuple(size), generator=generator) < probability
    return drawn.to(device)


def _place(count: int, p: float, generator: torch.Generator | None) -> Tensor:
    mean = torch.tensor(-count * math.log1p(-p), dtype=torch.float64)
    darts = int(torch.poisson(mean, generator=generator))
    where = (torch.rand(darts, generator=generator, dtype=torch.float64) * count).long()
    hit = torch.zeros(count, dtype=torch.bool)
    hit[where] = True
    return hit


def sample_uniform(
    size: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw float32 numbers in [0, 1) where the generator draws, and return them on ``device``."""
    source = generator.device if generator is not None else device
    return torch.rand(tuple(size), generator=generator, device=source).to(device)


def sample_permutation(
    count: int, *, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> Tensor:
    """Draw a random order of ``count`` things: int64 [count] on ``device``."""
    source = generator.device if generator is not None else device
    return torch.randperm(count, generator=generator, device=source).to(device)


def sample_beta(
    a: float,
    b: float,
    size: Sequence[int] = (),
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw numbers from Beta(a, b), each as the share of one gamma variate in the sum of two.

    Args:
        a: First shape, above 0.
        b: Second shape, above 0.
        size: Shape of the result; one number unless given.
        generator: Source of randomness; None for torch's global one.
        device: Where the result lies.

    Returns:
        float32 in [0, 1], of shape ``size``.

    Example:
        >>> 0 <= float(sample_beta(0.2, 0.2, generator=torch.Generator().manual_seed(0))) <= 1
        True
    """
    source = generator.device if generator is not None else torch.device(device)
    # In double precision: a gamma variate of a small shape is often below what single precision can hold.
    first, second = (
        torch._standard_gamma(torch.full(tuple(size), shape, dtype=torch.float64, device=source), generator)
        for shape in (a, b)
    )
    return (first / (first + second)).float().to(device)
