"""Blurs, zooms and textures that corruptions are made of, on batches [B, C, H, W] of floats."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_blur(
    images: Tensor, sigma: float, *, truncate: float = 4.0, border: str = "replicate"
) -> Tensor:
    """Blur with a Gaussian that is cut off at ``truncate`` standard deviations.

    Args:
        images: [B, C, H, W].
        sigma: Standard deviation in pixels; 0 returns the images.
        truncate: Where the Gaussian ends.
        border: ``"replicate"``, ``"reflect"`` (mirrored with the edge pixel twice) or ``"circular"``.

    Example:
        >>> float(gaussian_blur(torch.ones(1, 1, 5, 5), 1.0).mean().round(decimals=6))
        1.0
    """
    if sigma == 0:
        return images
    radius = int(truncate * sigma + 0.5)
    steps = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    weights = (-0.5 * (steps / sigma) ** 2).exp()
    weights = weights / weights.sum()
    for axis in (2, 3):
        images = _along(images, weights, axis, border)
    return images


def _along(images: Tensor, weights: Tensor, axis: int, border: str) -> Tensor:
    size, radius = images.shape[axis], len(weights) // 2
    places = torch.arange(-radius, size + radius, device=images.device)
    if border == "circular":
        places = places % size
    elif border == "reflect":  # ... 1 0 | 0 1 2 | 2 1 ...
        places = places % (2 * size)
        places = torch.where(places < size, places, 2 * size - 1 - places)
    else:
        places = places.clamp(0, size - 1)
    padded = images.index_select(axis, places)
    shape = [1, 1, len(weights), 1] if axis == 2 else [1, 1, 1, len(weights)]
    batch, channels, height, width = padded.shape
    return F.conv2d(padded.reshape(batch * channels, 1, height, width), weights.view(shape)).reshape(
        images.shape
    )


def disk_blur(images: Tensor, radius: float, softness: float) -> Tensor:
    """Blur with a disk whose edge is smoothed by a Gaussian: a lens out of focus."""
    reach = 8 if radius <= 8 else int(radius)
    steps = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    disk = ((steps[:, None] ** 2 + steps**2) <= radius**2).to(images.dtype)
    size = 3 if radius <= 8 else 5  # of the Gaussian, in pixels
    kernel = gaussian_blur((disk / disk.sum())[None, None], softness, truncate=(size // 2) / softness)[0, 0]
    kernel = kernel / kernel.sum()
    batch, channels, height, width = images.shape
    rows, columns = (
        _mirrored(torch.arange(-reach, side + reach, device=images.device), side) for side in (height, width)
    )
    padded = images[:, :, rows[:, None], columns]
    flat = padded.reshape(batch * channels, 1, *padded.shape[2:])
    return F.conv2d(flat, kernel[None, None]).reshape(images.shape)


def _mirrored(places: Tensor, size: int) -> Tensor:
    """Return places mirrored at the edge pixels, however far outside they are."""
    if size == 1:
        return torch.zeros_like(places)
    places = places % (2 * size - 2)
    return torch.where(places < size, places, 2 * size - 2 - places)


def motion_blur(images: Tensor, radius: int, sigma: float, angle: Tensor) -> Tensor:
    """Smear every image along a direction of its own, with weights that fall off like half a Gaussian.

    Args:
        images: [B, C, H, W].
        radius: The trail is 2 · radius + 1 pixels long.
        sigma: Standard deviation in pixels.
        angle: Direction of each in degrees, [B].
    """
    steps = torch.arange(2 * radius + 1, dtype=torch.float32, device=images.device)
    weights = (-0.5 * (steps / sigma) ** 2).exp()
    weights = (weights / weights.sum()).to(images.dtype)
    radians = angle.to(images.device, torch.float32) * (math.pi / 180)
    height, width = images.shape[-2:]
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    rows, columns = (torch.arange(side, device=images.device) for side in (height, width))
    blurred = torch.zeros_like(images)
    for step, weight in zip(steps, weights, strict=True):
        down, across = (-torch.ceil(step * part - 0.5).long() for part in (radians.sin(), radians.cos()))
        y = (rows + down[:, None]).clamp(0, height - 1)[:, :, None]
        x = (columns + across[:, None]).clamp(0, width - 1)[:, None, :]
        blurred += weight * images[batch, :, y, x].movedim(-1, 1)
    return blurred


def zoomed(images: Tensor, factor: float) -> Tensor:
    """Magnify the middle of images to their size (bilinear, corners on corners)."""
    height, width = images.shape[-2:]
    tall, broad = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - tall) // 2, (width - broad) // 2
    middle = images[:, :, top : top + tall, left : left + broad]
    size = (max(height, round(tall * factor)), max(width, round(broad * factor)))
    large = F.interpolate(middle, size=size, mode="bilinear", align_corners=True)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return large[:, :, top : top + height, left : left + width]


def plasma(batch: int, height: int, width: int, decay: float, generator: torch.Generator) -> Tensor:
    """Return clouds of fractal noise in [0, 1], [B, 1, H, W], made by the diamond-square algorithm.

    Args:
        batch: B.
        height: H.
        width: W.
        decay: By how much the noise falls from one scale to the next finer one.
        generator: Source of randomness, on the CPU.
    """
    side = 1 << max(1, math.ceil(math.log2(max(height, width, 2))))
    cloud = torch.zeros(batch, side, side)

    def noisy(total: Tensor, wobble: float) -> Tensor:
        noise = torch.rand(total.shape, generator=generator) * 2 - 1
        return total / 4 + wobble * wobble * noise

    step, wobble = side, 100.0
    while step >= 2:
        half = step // 2
        corners = cloud[:, ::step, ::step]
        rows = corners + corners.roll(-1, 1)
        cloud[:, half::step, half::step] = noisy(rows + rows.roll(-1, 2), wobble)
        centres = cloud[:, half::step, half::step]
        corners = cloud[:, ::step, ::step]
        above = centres + centres.roll(1, 1) + corners + corners.roll(-1, 2)
        beside = centres + centres.roll(1, 2) + corners + corners.roll(-1, 1)
        cloud[:, ::step, half::step] = noisy(above, wobble)
        cloud[:, half::step, ::step] = noisy(beside, wobble)
        step, wobble = half, wobble / decay
    low, high = (part[:, None, None] for part in (cloud.flatten(1).amin(1), cloud.flatten(1).amax(1)))
    return ((cloud - low) / (high - low))[:, None, :height, :width]
