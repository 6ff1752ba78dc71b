"""Adversarial images: small changes of pixels that a model's own gradient suggests."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Losses = Callable[[Tensor], Tensor]
"""Takes pixels in [0, 1], [B, C, H, W]; returns the loss of each image, [B]."""


def fgsm(losses: Losses, pixels: Tensor, epsilon: float) -> Tensor:
    """Move every pixel by epsilon in the direction in which the loss rises.

    clip(x + epsilon · sign(grad)) (Goodfellow, Shlens & Szegedy 2015, arXiv 1412.6572, section 4).

    Args:
        losses: The attacked model's loss on true labels.
        pixels: In [0, 1], [B, C, H, W].
        epsilon: Largest change of a pixel.

    Returns:
        Pixels in [0, 1].

    Example:
        >>> fgsm(lambda x: -x.sum((1, 2, 3)), torch.tensor([[[[0.5, 0.02]]]]), 0.1).tolist()
        [[[[0.4000000059604645, 0.0]]]]
    """
    return (pixels + epsilon * _gradient(losses, pixels).sign()).clamp(0, 1)


def pgd(
    losses: Losses,
    pixels: Tensor,
    epsilon: float,
    *,
    steps: int,
    step: float,
    generator: torch.Generator,
) -> Tensor:
    """Take several steps of the gradient's sign from a random start, never further than epsilon from the image.

    Source: Madry et al. 2018, arXiv 1706.06083, section 2.1.

    Args:
        losses: The attacked model's loss on true labels.
        pixels: In [0, 1], [B, C, H, W].
        epsilon: Largest change of a pixel.
        steps: How many.
        step: Size of each as a share of epsilon.
        generator: Source of the start, on the CPU.

    Returns:
        Pixels in [0, 1].
    """
    start = torch.rand(pixels.shape, generator=generator, dtype=pixels.dtype).to(pixels.device)
    found = (pixels + epsilon * (2 * start - 1)).clamp(0, 1)
    for _ in range(steps):
        moved = found + step * epsilon * _gradient(losses, found).sign()
        found = torch.minimum(torch.maximum(moved, pixels - epsilon), pixels + epsilon).clamp(0, 1)
    return found


def _gradient(losses: Losses, pixels: Tensor) -> Tensor:
    changed = pixels.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(losses(changed).sum(), changed)
    return gradient
