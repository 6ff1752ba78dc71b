"""Where the random numbers of an augmentation come from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from regathlon_core.rng import SampleDraw

Uniform = Callable[[int, str], Tensor]
"""Called with how many numbers a sample needs and what for; returns them in [0, 1), float32 [B, count]."""


def from_draw(draw: SampleDraw, index: Tensor) -> Uniform:
    """Return the numbers that belong to samples, whatever batch they are in."""
    return lambda count, purpose: draw.uniform(index, count, purpose=purpose)


def from_generator(generator: torch.Generator, size: int) -> Uniform:
    """Return numbers for samples that have none of their own, such as unlabelled ones drawn at random."""
    return lambda count, purpose: torch.rand(size, count, generator=generator, device=generator.device)


def normal(uniform: Uniform, count: int, purpose: str) -> Tensor:
    """Return standard normal numbers, float32 [B, count] (Box & Muller)."""
    first, second = uniform(2 * count, purpose).chunk(2, dim=1)
    radius = (-2 * (1 - first).log()).sqrt()
    return radius * (2 * torch.pi * second).cos()
