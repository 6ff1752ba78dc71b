"""GradAug's draws."""

from __future__ import annotations

import torch


def sample_widths(
    n: int, alpha: float, generator: torch.Generator, *, always_min: bool = False
) -> list[float]:
    """Return the widths of a step's sub-networks, widest first.

    Args:
        n: How many, 0 or more.
        alpha: Smallest width in (0, 1]. One of two or more sub-networks has exactly this width.
        generator: Source of randomness, on any device.
        always_min: Whether a single sub-network has width ``alpha`` too (the authors' code).

    Returns:
        ``n`` widths in [alpha, 1].

    Example:
        >>> widths = sample_widths(3, 0.8, torch.Generator().manual_seed(0))
        >>> widths[-1], all(0.8 <= width <= 1 for width in widths)
        (0.8, True)
    """
    smallest = [alpha] if n > 1 or (n == 1 and always_min) else []
    uniform = torch.rand(n - len(smallest), generator=generator, device=generator.device, dtype=torch.float64)
    return sorted((alpha + (1 - alpha) * uniform).tolist() + smallest, reverse=True)
