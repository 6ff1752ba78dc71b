"""Random image operations on whole batches: every sample's parameters are given, nothing is drawn here.

Images are [B, C, H, W]; maps of labels go through the same operations as [B, 1, H, W] in nearest mode.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Mode = Literal["bilinear", "nearest"]


def crop(images: Tensor, top: Tensor, left: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut a window out of every image, each at its own place.

    Args:
        images: [B, C, H, W], any dtype.
        top: First row of each window, int64 [B], in [0, H - height].
        left: First column, int64 [B], in [0, W - width].
        size: Height and width of the windows.

    Returns:
        [B, C, height, width].

    Example:
        >>> images = torch.arange(12).reshape(1, 1, 3, 4)
        >>> crop(images, torch.tensor([1]), torch.tensor([2]), (2, 2)).tolist()
        [[[[6, 7], [10, 11]]]]
    """
    rows = top[:, None] + torch.arange(size[0], device=images.device)
    columns = left[:, None] + torch.arange(size[1], device=images.device)
    batch = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return images[batch, channel, rows[:, None, :, None], columns[:, None, None, :]]


def random_shift(
    images: Tensor, uniform: Tensor, padding: int, *, border: Literal["zeros", "edge", "reflect"] = "zeros"
) -> Tensor:
    """Move every image by up to ``padding`` pixels either way: pad, then crop at random (He et al. 2016).

    Args:
        images: [B, C, H, W], any dtype.
        uniform: Random numbers in [0, 1), [B, 2]: vertical, horizontal.
        padding: Largest shift in pixels, at least 0.
        border: What comes in: zeros, the pixels at the edge again, or the image mirrored at its edge pixels (then
            ``padding`` is smaller than the image).

    Returns:
        [B, C, H, W].

    Example:
        >>> image = torch.tensor([[[[1, 2, 3]]]])
        >>> random_shift(image, torch.tensor([[0.5, 0.0]]), 1, border="edge").tolist()
        [[[[1, 1, 2]]]]
    """
    height, width = images.shape[-2:]
    rows, columns = (torch.arange(-padding, side + padding, device=images.device) for side in (height, width))
    if border == "reflect":
        inner = [(side - 1 - (side - 1 - at.abs()).abs()) for at, side in ((rows, height), (columns, width))]
    else:
        inner = [rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
    padded = images[:, :, inner[0][:, None], inner[1]]
    if border == "zeros":
        inside = ((rows >= 0) & (rows < height))[:, None] & (columns >= 0) & (columns < width)
        padded = padded * inside
    top, left = (uniform * (2 * padding + 1)).long().clamp_(max=2 * padding).unbind(1)
    return crop(padded, top, left, (height, width))


def random_flip(images: Tensor, uniform: Tensor, *, p: float = 0.5) -> Tensor:
    """Mirror images left to right, each with probability ``p``.

    Args:
        images: [B, C, H, W], any dtype.
        uniform: Random numbers in [0, 1), [B].
        p: Probability of a flip.
    """
    return torch.where((uniform < p)[:, None, None, None], images.flip(-1), images)


def resized_windows(images: Tensor, windows: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut a window out of every image and resize it (bilinear), all in one go on the images' device.

    Args:
        images: [B, C, H, W], floating.
        windows: Top, left, height and width of each in pixels, float32 [B, 4].
        size: Height and width of the result.

    Returns:
        [B, C, height, width].

    Example:
        >>> image = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> resized_windows(image, torch.tensor([[1.0, 2.0, 2.0, 2.0]]), (2, 2)).tolist()
        [[[[6.0, 7.0], [10.0, 11.0]]]]
    """
    top, left, tall, broad = windows.to(torch.float32).unbind(1)
    across = torch.arange(size[1], device=images.device)
    down = torch.arange(size[0], device=images.device)
    columns = (left[:, None] + (across + 0.5) * (broad / size[1])[:, None]) * (2 / images.shape[-1]) - 1
    rows = (top[:, None] + (down + 0.5) * (tall / size[0])[:, None]) * (2 / images.shape[-2]) - 1
    grid = torch.stack(
        [columns[:, None].expand(-1, size[0], -1), rows[:, :, None].expand(-1, -1, size[1])], dim=-1
    )
    return F.grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=False)


def jitter_colours(images: Tensor, factors: Tensor) -> Tensor:
    """Change brightness, contrast and saturation of every image, in this order.

    Args:
        images: RGB in [0, 1], floating [B, 3, H, W].
        factors: One for each of the three per image, [B, 3]; 1 changes nothing.

    Returns:
        [B, 3, H, W], cut off at 0 and 1 after each change.

    Example:
        >>> image = torch.tensor([0.2, 0.4, 0.6]).reshape(1, 3, 1, 1)
        >>> [round(value, 6) for value in jitter_colours(image, torch.tensor([[0.5, 1.0, 1.0]])).flatten().tolist()]
        [0.1, 0.2, 0.3]
    """
    brightness, contrast, saturation = factors.to(images.dtype)[:, :, None, None, None].unbind(1)
    images = (images * brightness).clamp(0, 1)
    mean = gray(images).mean(dim=(-2, -1), keepdim=True)
    images = (mean + contrast * (images - mean)).clamp(0, 1)
    faded = gray(images)
    return (faded + saturation * (images - faded)).clamp(0, 1)


def light(images: Tensor, amounts: Tensor) -> Tensor:
    """Add to the colours of every image an amount of each principal component of ImageNet's colours.

    Source: Krizhevsky, Sutskever & Hinton 2012, section 4.1; components and their standard deviations as in the training
    scripts of ResNets (https://github.com/facebookarchive/fb.resnet.torch).

    Args:
        images: RGB in [0, 1], floating [B, 3, H, W].
        amounts: Of each component, in its standard deviations, [B, 3].

    Returns:
        [B, 3, H, W]; not cut off at 0 and 1.

    Example:
        >>> light(torch.zeros(1, 3, 1, 1), torch.zeros(1, 3)).flatten().tolist()
        [0.0, 0.0, 0.0]
    """
    components = images.new_tensor(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    )
    spread = images.new_tensor([0.2175, 0.0188, 0.0045])
    return images + ((amounts.to(images.dtype) * spread) @ components.T)[:, :, None, None]


def gray(images: Tensor) -> Tensor:
    """Return the brightness of colours, [B, 1, H, W], of RGB images [B, 3, H, W]."""
    weights = images.new_tensor([0.299, 0.587, 0.114])  # ITU-R BT.601
    return (images * weights[:, None, None]).sum(dim=1, keepdim=True)


def affine(
    images: Tensor,
    scale: Tensor,
    angle: Tensor,
    shift: Tensor,
    *,
    mode: Mode = "bilinear",
    border: Literal["zeros", "border", "reflection"] = "zeros",
) -> Tensor:
    """Scale, rotate and shift every image about its centre, each by its own amounts.

    Args:
        images: [B, C, H, W]; any dtype with ``mode="nearest"`` whose values float32 can hold, else floating.
        scale: Magnification, [B], above 0.
        angle: Radians, counter-clockwise as one sees it, [B].
        shift: Pixels down and right, after scaling and rotation, [B, 2].
        mode: ``"nearest"`` for labels.
        border: What comes in from outside the image.

    Returns:
        [B, C, H, W], dtype of the images.

    Example:
        >>> image = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
        >>> half_turn = affine(image, torch.ones(1), torch.tensor([torch.pi]), torch.zeros(1, 2))
        >>> half_turn.round().tolist()
        [[[[3.0, 2.0], [1.0, 0.0]]]]
    """
    height, width = images.shape[-2:]
    cos, sin = angle.cos() / scale, angle.sin() / scale
    # The map from where a pixel lands to where it comes from, in pixels (column, row) about the centre.
    inverse = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    rows = torch.arange(height, device=images.device) - (height - 1) / 2
    columns = torch.arange(width, device=images.device) - (width - 1) / 2
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
    moved = grid - shift.flip(1)[:, None, None, :]
    source = torch.einsum("bij,bhwj->bhwi", inverse, moved)
    source = source * 2 / torch.tensor([width, height], device=images.device)
    values = images if images.is_floating_point() else images.float()
    sampled = F.grid_sample(
        values, source.to(values.dtype), mode=mode, padding_mode=border, align_corners=False
    )
    return sampled.to(images.dtype)


def rotate(images: Tensor, degrees: float, *, mode: Mode = "bilinear") -> Tensor:
    """Rotate all images by one angle, counter-clockwise; exactly where it is a multiple of 90 degrees.

    Args:
        images: [B, C, H, W]; integer dtypes only with ``mode="nearest"``.
        degrees: The angle. Between multiples of 90 what comes in at the corners is the image mirrored at its
            border, so that labels, rotated alike, stay true everywhere.
        mode: ``"nearest"`` for labels.

    Returns:
        [B, C, H, W], or [B, C, W, H] after an odd number of quarter turns.

    Example:
        >>> rotate(torch.tensor([[[[1, 2], [3, 4]]]]), 90, mode="nearest").tolist()
        [[[[2, 4], [1, 3]]]]
    """
    if degrees % 90 == 0:
        return images.rot90(int(degrees // 90), (-2, -1))
    same = images.new_ones(len(images), dtype=torch.float32)
    angle = same * math.radians(degrees)
    return affine(images, same, angle, same.new_zeros(len(images), 2), mode=mode, border="reflection")


def rescale(images: Tensor, scale: float, *, mode: Mode = "bilinear") -> Tensor:
    """Resize all images by one factor; sides are rounded, and are at least one pixel.

    Args:
        images: [B, C, H, W]; integer dtypes only with ``mode="nearest"``.
        scale: Factor, above 0.
        mode: ``"nearest"`` for labels.

    Returns:
        [B, C, round(H · scale), round(W · scale)].

    Example:
        >>> rescale(torch.zeros(2, 1, 9, 8), 0.5).shape
        torch.Size([2, 1, 4, 4])
    """
    size = [max(1, round(side * scale)) for side in images.shape[-2:]]
    if size == list(images.shape[-2:]):
        return images
    if mode == "nearest":
        # Same sampling grid as below: corners stay corners.
        rows, columns = (
            torch.linspace(0, old - 1, new, device=images.device).round().long()
            for old, new in zip(images.shape[-2:], size, strict=True)
        )
        return images[:, :, rows[:, None], columns]
    return F.interpolate(images, size=size, mode="bilinear", align_corners=True)
