"""Point clouds of three shapes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from regathlon_core.features import FeaturePoint
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.rng import SampleDraw, stream
from regathlon_core.settings import ModelSettings, TaskSettings
from regathlon_core.task import Batch, Split, Task, View
from regathlon_core.testing.toys.base import SPLITS, ToyTask


@dataclass(frozen=True)
class ToyPointNetSettings(ModelSettings):
    """A PointNet of two layers."""

    name: ClassVar[str] = "toy_pointnet"
    summary: ClassVar[str] = "shared layers on points, then the maximum"
    implementation: ClassVar[str] = "regathlon_core.testing.toys.points:build_toy_pointnet"
    width: int = 8


@dataclass(frozen=True)
class ToyPointsSettings(TaskSettings):
    """Noisy points on a line, a circle or a sphere."""

    name: ClassVar[str] = "points/toy"
    summary: ClassVar[str] = "points on a line, a circle or a sphere"
    implementation: ClassVar[str] = "regathlon_core.testing.toys.points:ToyPoints"
    dataset: ClassVar[str] = "toy"
    provides: ClassVar[frozenset[str]] = frozenset(
        {"class_labels", "sample_labels", "features", "soft_loss", "views", "occlude"}
    )
    views: ClassVar[tuple[str, ...]] = ("rotation",)
    models: ClassVar[tuple[type[ModelSettings], ...]] = (ToyPointNetSettings,)
    recipe: ClassVar[Recipe] = Recipe(lr=0.05, batch_size=16, budget=Budget(epochs=2))
    metric: ClassVar[str] = "accuracy"
    samples: int = 48
    points: int = 33


class ToyPoints(ToyTask):
    """See ``ToyPointsSettings``.

    Example:
        >>> ToyPoints().batch("train", torch.arange(4)).inputs.shape
        torch.Size([4, 3, 33])
    """

    def __init__(self, settings: ToyPointsSettings | None = None, data: object = None) -> None:
        settings = settings if settings is not None else ToyPointsSettings()
        super().__init__(
            settings,
            {split: _clouds(settings, split, count or settings.samples) for split, count in SPLITS.items()},
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return ("line", "circle", "sphere")

    @property
    def in_channels(self) -> int:
        """Three coordinates."""
        return 3

    def augment(self, inputs: Tensor, index: Tensor, draw: SampleDraw) -> Tensor:
        """Scale each cloud by a factor in [0.9, 1.1)."""
        return inputs * (0.9 + 0.2 * draw.uniform(index, 1, purpose="scale"))[:, :, None]

    def features(self, model: nn.Module) -> Sequence[FeaturePoint]:
        """Return the shared layers' outputs; that of the layer on whole clouds, [B, C], where asked for."""
        width = model.block1[0].out_channels  # type: ignore[union-attr, index]
        return [
            FeaturePoint("block1", channels=width),
            FeaturePoint("block2", channels=2 * width),
            FeaturePoint("cloud", channels=2 * width, default=False),
        ]

    def views(self, batch: Batch, generator: torch.Generator, kinds: Sequence[str] = ()) -> Iterator[View]:
        """Yield the batch turned about the last axis by a random angle."""
        self.view_kinds(kinds)
        while True:
            angle = 2 * math.pi * torch.rand((), generator=generator, device=generator.device)
            x, y, z = batch.inputs.unbind(1)
            turned = torch.stack(
                [angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y, z], dim=1
            )
            yield View(batch.replace(inputs=turned))

    def occlude(self, batch: Batch, where: Tensor) -> Batch:
        """Move points to the origin."""
        return batch.replace(inputs=batch.inputs.masked_fill(where[:, None], 0.0))


def _clouds(settings: ToyPointsSettings, split: Split, count: int) -> tuple[Tensor, Tensor]:
    generator = stream(0, "toy points", split)
    labels = torch.arange(count) % 3
    points = torch.randn(count, 3, settings.points, generator=generator)
    for cloud, label in zip(points, labels.tolist(), strict=True):
        cloud[label + 1 :] = 0.0
        cloud /= cloud.norm(dim=0) if label else 1.0
    return points + 0.05 * torch.randn(points.shape, generator=generator), labels


class _ToyPointNet(nn.Module):
    def __init__(self, in_channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.block1 = nn.Sequential(nn.Conv1d(in_channels, width, 1), nn.BatchNorm1d(width), nn.ReLU())
        self.block2 = nn.Sequential(nn.Conv1d(width, 2 * width, 1), nn.BatchNorm1d(2 * width), nn.ReLU())
        self.cloud = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.ReLU())
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.cloud(self.block2(self.block1(x)).amax(dim=2)))
        return out


def build_toy_pointnet(settings: ToyPointNetSettings, task: Task) -> nn.Module:
    """Build the model."""
    return _ToyPointNet(task.in_channels, settings.width, len(task.classes))
