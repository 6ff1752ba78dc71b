"""The nineteen common corruptions, on whole batches.

Source: Hendrycks & Dietterich 2019 (arXiv:1903.12261), section 4 and appendix B; severities as in
``regathlon_vision.robustness.constants``. Written anew from the definitions. Deviations from the authors' code: (1) frost is
drawn, not cut out of six photographs, which cannot be shipped; (2) spatter's drops of water take edges and distances from
other filters than OpenCV's; (3) motion blur is that of ImageMagick's description, without its colour tables; (4) pixels are
rounded to 8 bits once, at the end.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage  # type: ignore[import-untyped]
from torch import Tensor

from regathlon_core.errors import UserError, unknown
from regathlon_vision import ops
from regathlon_vision.robustness import filters
from regathlon_vision.robustness.constants import LARGE, SMALL

Corruption = Callable[[Tensor, Any, torch.Generator], Tensor]


def corrupted(images: Tensor, name: str, severity: int, *, generator: torch.Generator) -> Tensor:
    """Return images as a corruption leaves them.

    Args:
        images: Pixels in [0, 1], float32 [B, 3, H, W], or [B, 1, H, W], which are taken for gray colours. Images of at most
            64 pixels a side take the severities of CIFAR-10-C, larger ones those of ImageNet-C.
        name: One of ``constants.COMMON`` or ``constants.EXTRA``.
        severity: 1 to 5.
        generator: Source of randomness, on the CPU.

    Returns:
        Pixels in [0, 1], rounded to multiples of 1/255, of the images' shape and device.

    Raises:
        UserError: There is no such corruption or severity.

    Example:
        >>> images = torch.full((2, 3, 8, 8), 0.5)
        >>> bright = corrupted(images, "brightness", 5, generator=torch.Generator().manual_seed(0))
        >>> round(float(bright.mean()), 3)
        0.8
    """
    if name not in CORRUPTIONS:
        raise unknown("corruption", name, CORRUPTIONS)
    if severity not in range(1, 6):
        raise UserError(f"Severities go from 1 to 5; there is no {severity}.")
    table = SMALL if max(images.shape[-2:]) <= 64 else LARGE
    coloured = images.expand(-1, 3, -1, -1).cpu()
    made = CORRUPTIONS[name](coloured, table[name][severity - 1], generator)
    made = (made.clamp(0, 1) * 255).round() / 255
    if images.shape[1] == 1:
        made = ops.gray(made)
    return made.to(images.device, images.dtype)


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator)


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)


def _gaussian_noise(x: Tensor, std: float, generator: torch.Generator) -> Tensor:
    return x + std * _normal(x.shape, generator)


def _shot_noise(x: Tensor, photons: float, generator: torch.Generator) -> Tensor:
    return torch.poisson(x * photons, generator=generator) / photons


def _impulse_noise(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    draws = torch.rand(x.shape, generator=generator)
    return torch.where(draws < share / 2, 0.0, torch.where(draws < share, 1.0, x))


def _speckle_noise(x: Tensor, std: float, generator: torch.Generator) -> Tensor:
    return x + x * std * _normal(x.shape, generator)


def _gaussian_blur(x: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    return filters.gaussian_blur(x, sigma)


def _defocus_blur(x: Tensor, lens: tuple[float, float], generator: torch.Generator) -> Tensor:
    return filters.disk_blur(x, *lens)


def _glass_blur(x: Tensor, glass: tuple[float, int, int], generator: torch.Generator) -> Tensor:
    sigma, reach, rounds = glass
    x = filters.gaussian_blur(x, sigma).clone()
    height, width = x.shape[-2:]
    batch = torch.arange(len(x))
    for _ in range(rounds):
        moves = torch.randint(-reach, reach, (2, height, width, len(x)), generator=generator)
        for row in range(height - reach, reach, -1):
            for column in range(width - reach, reach, -1):
                down, across = moves[:, row, column]
                # As in the published data a pixel takes its neighbour's place, and the neighbour stays where it is.
                x[:, :, row, column] = x[batch, :, row + down, column + across]
    return filters.gaussian_blur(x, sigma)


def _motion_blur(x: Tensor, trail: tuple[int, float], generator: torch.Generator) -> Tensor:
    return filters.motion_blur(x, *trail, _uniform(len(x), -45, 45, generator))


def _zoom_blur(x: Tensor, zoom: tuple[float, float], generator: torch.Generator) -> Tensor:
    largest, step = zoom
    factors = [1 + step * at for at in range(round((largest - 1) / step) + 1)]
    total = x + sum((filters.zoomed(x, factor) for factor in factors), torch.zeros_like(x))
    return total / (len(factors) + 1)


def _snow(x: Tensor, flakes: tuple[float, ...], generator: torch.Generator) -> Tensor:
    mean, std, zoom, least, radius, sigma, share = flakes
    layer = filters.zoomed(mean + std * _normal((len(x), 1, *x.shape[-2:]), generator), zoom)
    layer = torch.where(layer < least, 0.0, layer).clamp(0, 1)
    layer = filters.motion_blur(layer, int(radius), sigma, _uniform(len(x), -135, -45, generator))
    pale = torch.maximum(x, ops.gray(x) * 1.5 + 0.5)
    return share * x + (1 - share) * pale + layer + layer.rot90(2, (-2, -1))


def _frost(x: Tensor, mix: tuple[float, float], generator: torch.Generator) -> Tensor:
    height, width = x.shape[-2:]
    # Needles of ice: the ridges of two clouds, one fine and one coarse, in the colour of a cold window.
    fine, coarse = (filters.plasma(len(x), height, width, decay, generator) for decay in (1.6, 2.5))
    ridges = (1 - (2 * fine - 1).abs()) ** 4
    ice = (0.25 + 0.5 * coarse + 0.6 * ridges).clamp(0, 1)
    return mix[0] * x + mix[1] * ice * torch.tensor([0.8, 0.92, 1.0])[:, None, None]


def _fog(x: Tensor, cloud: tuple[float, float], generator: torch.Generator) -> Tensor:
    thickness, decay = cloud
    brightest = x.flatten(1).amax(1)[:, None, None, None]
    height, width = x.shape[-2:]
    fog = filters.plasma(len(x), height, width, decay, generator)
    return (x + thickness * fog) * brightest / (brightest + thickness)


def _brightness(x: Tensor, more: float, generator: torch.Generator) -> Tensor:
    value = x.amax(1, keepdim=True)
    # The brightest colour rises, hue and saturation stay; black, which has neither, becomes gray.
    return torch.where(value > 0, x * ((value + more).clamp(0, 1) / value.clamp_min(1e-12)), min(more, 1.0))


def _saturate(x: Tensor, change: tuple[float, float], generator: torch.Generator) -> Tensor:
    value = x.amax(1, keepdim=True)
    spread = value - x.amin(1, keepdim=True)
    saturation = spread / value.clamp_min(1e-12)
    wanted = (saturation * change[0] + change[1]).clamp(0, 1)
    coloured = value - (value - x) * (wanted / saturation.clamp_min(1e-12))
    red = torch.cat([value, *[value * (1 - wanted)] * 2], dim=1)  # gray has the hue 0, which is red
    return torch.where(spread > 0, coloured, red)


def _contrast(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    mean = x.mean(dim=(-2, -1), keepdim=True)
    return mean + share * (x - mean)


def _elastic_transform(x: Tensor, warp: tuple[float, float, float], generator: torch.Generator) -> Tensor:
    size, sigma, shake = warp
    count, _, height, width = x.shape
    # An affine map that moves three points about the centre by up to ``shake`` pixels each.
    third = min(height, width) // 3
    corners = torch.tensor([[third, third], [third, -third], [-third, -third]], dtype=torch.float32)
    moved = corners + _uniform(count * 6, -shake, shake, generator).view(count, 3, 2)
    ones = torch.ones(count, 3, 1)
    # From where a pixel lands to where it comes from, about the centre.
    back = torch.linalg.solve(torch.cat([moved, ones], 2), corners.expand(count, 3, 2))
    rows, columns = torch.arange(height) - height // 2, torch.arange(width) - width // 2
    grid = torch.stack(torch.meshgrid(rows.float(), columns.float(), indexing="ij"), -1)
    source = torch.cat([grid, torch.ones(height, width, 1)], -1) @ back[:, None]
    source = source + torch.tensor([height // 2, width // 2])
    x = _sampled(x, source)
    waves = torch.rand(count, 2, height, width, generator=generator) * 2 - 1
    waves = filters.gaussian_blur(waves, sigma, truncate=3.0, border="reflect") * size
    here = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), -1)
    return _sampled(x, here + waves.movedim(1, -1))


def _sampled(x: Tensor, places: Tensor) -> Tensor:
    """Return pixels at (row, column) places, [B, H, W, 2], mirrored at the border."""
    scale = torch.tensor([max(side - 1, 1) for side in x.shape[-2:]], dtype=torch.float32) / 2
    grid = (places / scale - 1).flip(-1)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=True)


def _each(x: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Change images one by one as PIL images."""
    bytes_ = (x.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    changed = [np.asarray(change(Image.fromarray(image))) for image in bytes_]
    return torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2).float() / 255


def _pixelate(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    def coarse(image: Image.Image) -> Image.Image:
        small = (max(1, int(image.width * share)), max(1, int(image.height * share)))
        return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)

    return _each(x, coarse)


def _jpeg_compression(x: Tensor, quality: int, generator: torch.Generator) -> Tensor:
    def compressed(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as again:
            return again.convert("RGB")

    return _each(x, compressed)


def _spatter(x: Tensor, drops: tuple[float, ...], generator: torch.Generator) -> Tensor:
    mean, std, sigma, least, strength, mud = drops
    layer = filters.gaussian_blur(mean + std * _normal((len(x), 1, *x.shape[-2:]), generator), sigma)
    layer = torch.where(layer < least, 0.0, layer)
    if mud:
        covered = filters.gaussian_blur((layer > least).float(), strength)
        covered = torch.where(covered < 0.8, 0.0, covered)
        return x * (1 - covered) + torch.tensor([63, 42, 20])[:, None, None] / 255 * covered
    shine = torch.stack([_shine(image) for image in layer[:, 0].numpy()])[:, None] * layer
    shine = shine / shine.flatten(1).amax(1).clamp_min(1e-12)[:, None, None, None] * strength
    return x + shine * torch.tensor([175, 238, 238])[:, None, None] / 255


def _shine(layer: np.ndarray[Any, np.dtype[np.float32]]) -> Tensor:
    """Return how bright drops of water are: lit from one side near their edges."""
    edges = np.hypot(ndimage.sobel(layer, 0), ndimage.sobel(layer, 1)) > 0.2
    distance = np.minimum(ndimage.distance_transform_edt(~edges), 20)
    blurred = ndimage.uniform_filter(distance, 3)
    ranks = np.searchsorted(np.sort(blurred, axis=None), blurred, side="right") / blurred.size
    relief = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    lit = ndimage.uniform_filter(ndimage.correlate(ranks, relief), 3)
    return torch.from_numpy(np.clip(lit, 0, None).astype(np.float32))


CORRUPTIONS: MappingProxyType[str, Corruption] = MappingProxyType(
    {
        "gaussian_noise": _gaussian_noise,
        "shot_noise": _shot_noise,
        "impulse_noise": _impulse_noise,
        "defocus_blur": _defocus_blur,
        "glass_blur": _glass_blur,
        "motion_blur": _motion_blur,
        "zoom_blur": _zoom_blur,
        "snow": _snow,
        "frost": _frost,
        "fog": _fog,
        "brightness": _brightness,
        "contrast": _contrast,
        "elastic_transform": _elastic_transform,
        "pixelate": _pixelate,
        "jpeg_compression": _jpeg_compression,
        "speckle_noise": _speckle_noise,
        "gaussian_blur": _gaussian_blur,
        "spatter": _spatter,
        "saturate": _saturate,
    }
)
"""By name: takes pixels in [0, 1], float32 [B, 3, H, W], a severity's settings and a generator."""
