"""Random changes of colour on whole batches: every sample's amounts are given, nothing is drawn here.

Images are [B, 3, H, W] in [0, 1] and stay there. What they do is what torchvision's functions of these names do to one
image.
"""

from __future__ import annotations

import torch
from torch import Tensor


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply every image with its factor, [B]."""
    return (images * _per_image(factor)).clamp_(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Move every image away from its mean gray by a factor, [B]."""
    mean = luminance(images).mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean, images, _per_image(factor)).clamp_(0, 1)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Move every pixel away from its gray by a factor, [B]."""
    return torch.lerp(luminance(images).expand_as(images), images, _per_image(factor)).clamp_(0, 1)


def hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of every image by a share of the circle, [B] in [-0.5, 0.5].

    In hexagonal HSV a channel is value - chroma · clip(min(k, 4 - k)) with k six times the hue plus an offset, which needs
    no case for each sixth of the circle.

    Example:
        >>> red = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
        >>> hue(red, torch.tensor([1 / 3])).flatten().tolist()
        [0.0, 1.0, 0.0]
    """
    value, highest = images.max(dim=1, keepdim=True)
    chroma = value - images.min(dim=1, keepdim=True).values
    red, green, blue = images.chunk(3, dim=1)
    sixth = torch.where(
        highest == 0, green - blue, torch.where(highest == 1, blue - red, red - green)
    ) / chroma.clamp(min=1e-12)
    angle = sixth + 2 * highest + 6 * _per_image(shift)
    offsets = torch.tensor([5.0, 3.0, 1.0], device=images.device).reshape(1, 3, 1, 1)
    k = (offsets + angle).remainder(6)
    return (value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1)).clamp_(0, 1)


def grayscale(images: Tensor, chosen: Tensor) -> Tensor:
    """Take the colours of the images where ``chosen``, bool [B], is True."""
    return torch.where(_per_image(chosen), luminance(images), images)


def luminance(images: Tensor) -> Tensor:
    """Return the gray of every pixel, [B, 1, H, W], by the weights of ITU-R 601."""
    weights = images.new_tensor([0.2989, 0.587, 0.114]).reshape(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def colour_jitter(images: Tensor, uniform: Tensor, amount: float) -> Tensor:
    """Change brightness, contrast, saturation and hue, in this order, each by up to ``amount`` either way.

    torchvision's ColorJitter draws an order for each image; here it is always the same.

    Args:
        images: [B, 3, H, W] in [0, 1].
        uniform: Random numbers in [0, 1), [B, 4].
        amount: In [0, 0.5].
    """
    change = (2 * uniform - 1) * amount
    for number, apply in enumerate((brightness, contrast, saturation)):
        images = apply(images, 1 + change[:, number])
    return hue(images, change[:, 3])


def _per_image(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)
