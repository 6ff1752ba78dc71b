"""Random changes of training clouds; every number belongs to (seed, epoch, sample), and all run on the clouds' device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from regathlon_core.rng import SampleDraw

_JITTER_LIMIT = 5.0  # standard deviations: 0.05 for the usual 0.01


@dataclass(frozen=True)
class Augmentation:
    """What happens to training clouds [B, C, N], in this order; fields at their defaults do nothing.

    Attributes:
        dropout: Largest share of points that are lost, as in PointNet++'s code: the share is uniform in
            [0, dropout], and a lost point becomes the cloud's first point.
        rotation: Turn about the up axis (z), by any angle; normals turn too.
        scale: Smallest and largest factor on coordinates.
        axis_scale: Draw a factor for each axis, as DGCNN's code does.
        log_scale: The factor's logarithm is uniform, not the factor.
        shift: Largest shift along each axis, uniform.
        jitter: Standard deviation of noise on every coordinate, cut off at five of them.
    """

    dropout: float = 0.0
    rotation: bool = False
    scale: tuple[float, float] = (1.0, 1.0)
    axis_scale: bool = False
    log_scale: bool = False
    shift: float = 0.0
    jitter: float = 0.0

    def __call__(self, clouds: Tensor, index: Tensor, draw: SampleDraw) -> Tensor:
        """Return changed copies of clouds.

        Args:
            clouds: float [B, C, N]; channels 0 to 2 are coordinates, 3 to 5, where there are that many, normals.
            index: The samples' indices, int64 [B], on the clouds' device.
            draw: Source of randomness.
        """
        count = clouds.shape[2]
        if self.dropout:
            share = self.dropout * draw.uniform(index, 1, purpose="dropout share")
            lost = draw.uniform(index, count, purpose="dropout") < share
            clouds = torch.where(lost[:, None], clouds[:, :, :1], clouds)
        if self.rotation:
            clouds = turn(clouds, draw.uniform(index, 1, purpose="turn")[:, 0])
        if self.scale != (1.0, 1.0):
            clouds = self._scaled(clouds, draw.uniform(index, 3 if self.axis_scale else 1, purpose="scale"))
        if self.shift:
            offset = (2 * draw.uniform(index, 3, purpose="shift") - 1) * self.shift
            clouds = _moved(clouds, offset[..., None])
        if self.jitter:
            uniform = draw.uniform(index, 3 * count, purpose="jitter").view(-1, 3, count)
            # The normal distribution's inverse makes a normal of a uniform; clamping also takes the infinity
            # at 0.
            normal = math.sqrt(2) * torch.erfinv(2 * uniform - 1)
            clouds = _moved(clouds, self.jitter * normal.clamp(-_JITTER_LIMIT, _JITTER_LIMIT))
        return clouds

    def _scaled(self, clouds: Tensor, uniform: Tensor) -> Tensor:
        low, high = self.scale
        if self.log_scale:
            factor = (math.log(low) + (math.log(high) - math.log(low)) * uniform).exp()
        else:
            factor = low + (high - low) * uniform
        return rescale(clouds, factor)


def turn(clouds: Tensor, uniform: Tensor) -> Tensor:
    """Turn clouds [B, C, N] about z; uniform numbers [B] in [0, 1) become angles. Normals turn too."""
    angle = (2 * math.pi * uniform)[:, None]
    cos, sin = angle.cos().to(clouds.dtype), angle.sin().to(clouds.dtype)
    parts = []
    for first in range(0, 6 if clouds.shape[1] >= 6 else 3, 3):
        x, y, z = clouds[:, first : first + 3].unbind(1)
        parts += [cos * x - sin * y, sin * x + cos * y, z]
    return torch.cat([torch.stack(parts, dim=1), clouds[:, len(parts) :]], dim=1)


def rescale(clouds: Tensor, factor: Tensor) -> Tensor:
    """Scale the coordinates of clouds [B, C, N] by factors [B, 1] or, for each axis, [B, 3]."""
    return torch.cat([clouds[:, :3] * factor[..., None].to(clouds.dtype), clouds[:, 3:]], dim=1)


def _moved(clouds: Tensor, offset: Tensor) -> Tensor:
    return torch.cat([clouds[:, :3] + offset.to(clouds.dtype), clouds[:, 3:]], dim=1)
