"""Clouds sampled from meshes that trimesh builds: nothing to download."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
import trimesh
from torch import Tensor

from regathlon_core.task import Split
from regathlon_points.classification.augmentation import Augmentation
from regathlon_points.classification.clouds import Floats, in_unit_sphere
from regathlon_points.classification.meshes import BUILDERS
from regathlon_points.classification.settings import ShapesSettings
from regathlon_points.classification.task import PointClassification

_SIZES: Mapping[Split, int] = MappingProxyType({"train": 60, "val": 30, "test": 60})  # of each class
_AUGMENTATION = Augmentation(rotation=True, scale=(2 / 3, 3 / 2), log_scale=True, jitter=0.01)
_TILT = 0.1  # standard deviation of the lean from upright, radians


class Shapes(PointClassification):
    """Ten kinds of solids: 600 clouds to train on, 300 to validate and 600 to test.

    Every cloud is sampled from a mesh of its own, whose proportions no other cloud shares; it is turned about
    the up axis, leans a little, has noise on every coordinate, and fills the unit sphere around the origin.
    Training clouds are turned about the up axis, scaled by a factor between 2/3 and 3/2, and every coordinate
    is jittered by 0.01, at most 0.05.

    Args:
        settings: Points of a cloud and their noise.
        data: Not used: nothing is read.

    Example:
        >>> task = Shapes()
        >>> batch = task.batch("train", torch.arange(4))
        >>> batch.inputs.shape, batch.targets.shape
        (torch.Size([4, 3, 256]), torch.Size([4]))
    """

    def __init__(self, settings: ShapesSettings | None = None, data: Path | None = None) -> None:
        settings = settings if settings is not None else ShapesSettings()
        splits = {split: _clouds(split, settings.points, settings.noise) for split in _SIZES}
        super().__init__(settings, tuple(BUILDERS), splits, augmentation=_AUGMENTATION)


@functools.cache
def _clouds(split: Split, points: int, noise: float) -> tuple[Tensor, Tensor]:
    """Return a split's clouds, float32 [B, 3, N], and labels, int64 [B], classes in turn."""
    rng = np.random.default_rng([2026, list(_SIZES).index(split)])
    labels = np.tile(np.arange(len(BUILDERS)), _SIZES[split])
    builders = list(BUILDERS.values())
    clouds = np.stack([_cloud(builders[label](rng), points, noise, rng) for label in labels])
    return torch.from_numpy(clouds).mT.float().contiguous(), torch.from_numpy(labels)


def _cloud(mesh: trimesh.Trimesh, points: int, noise: float, rng: np.random.Generator) -> Floats:
    """Return [N, 3]: a turned, noisy sample of the surface in the unit sphere."""
    surface, _ = trimesh.sample.sample_surface(mesh, points, seed=rng)
    cloud = in_unit_sphere(np.asarray(surface, dtype=np.float64)) @ _pose(rng).T
    return in_unit_sphere(cloud + noise * rng.standard_normal(cloud.shape))


def _pose(rng: np.random.Generator) -> Floats:
    """Return a rotation: any turn about z, then a small lean to a random side."""
    turn, side, lean = rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi), _TILT * rng.standard_normal()
    return _rotation((np.cos(side), np.sin(side), 0.0), lean) @ _rotation((0.0, 0.0, 1.0), turn)


def _rotation(axis: tuple[float, float, float], angle: float) -> Floats:
    """Return the rotation about a unit vector (Rodrigues' formula)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation: Floats = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation
