"""Scenes of bright and dark rectangles, to segment."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core.features import FeaturePoint
from regathlon_core.metrics import ConfusionMetrics, Metrics
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.rng import stream
from regathlon_core.settings import ModelSettings, TaskSettings
from regathlon_core.task import Batch, Split, Task, View
from regathlon_core.testing.toys.base import SPLITS, ToyTask, stack_splits
from regathlon_core.testing.toys.images import conv_block, conv_blocks


@dataclass(frozen=True)
class ToyUNetSettings(ModelSettings):
    """One step down, one step up, with a skip connection."""

    name: ClassVar[str] = "toy_unet"
    summary: ClassVar[str] = "a U-Net of one step"
    implementation: ClassVar[str] = "regathlon_core.testing.toys.scenes:build_toy_unet"
    width: int = 6


@dataclass(frozen=True)
class ToyScenesSettings(TaskSettings):
    """Scenes with a bright and a dark rectangle in noise; the pixels of their outlines do not count."""

    name: ClassVar[str] = "segmentation/toy"
    summary: ClassVar[str] = "rectangles in noise, pixel by pixel"
    implementation: ClassVar[str] = "regathlon_core.testing.toys.scenes:ToyScenes"
    dataset: ClassVar[str] = "toy"
    provides: ClassVar[frozenset[str]] = frozenset(
        {"class_labels", "grid_inputs", "features", "soft_loss", "views", "occlude"}
    )
    views: ClassVar[tuple[str, ...]] = ("mirror",)
    models: ClassVar[tuple[type[ModelSettings], ...]] = (ToyUNetSettings,)
    recipe: ClassVar[Recipe] = Recipe(lr=0.05, batch_size=8, budget=Budget(epochs=2))
    metric: ClassVar[str] = "miou"
    samples: int = 32
    height: int = 16
    width: int = 12


class ToyScenes(ToyTask):
    """See ``ToyScenesSettings``.

    Example:
        >>> batch = ToyScenes().batch("train", torch.arange(4))
        >>> batch.inputs.shape, batch.targets.shape
        (torch.Size([4, 1, 16, 12]), torch.Size([4, 16, 12]))
    """

    ignore_index = 255

    def __init__(self, settings: ToyScenesSettings | None = None, data: object = None) -> None:
        settings = settings if settings is not None else ToyScenesSettings()
        super().__init__(
            settings,
            stack_splits(
                {
                    split: _scenes(settings, split, count or settings.samples)
                    for split, count in SPLITS.items()
                }
            ),
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return ("background", "bright", "dark")

    @property
    def in_channels(self) -> int:
        """One grey channel."""
        return 1

    def metrics(self) -> Metrics:
        """Return mIoU, Dice and accuracies."""
        return ConfusionMetrics(len(self.classes), ignore_index=self.ignore_index, dense=True)

    def features(self, model: nn.Module) -> Sequence[FeaturePoint]:
        """Return the outputs of both blocks on the way down."""
        return conv_blocks(model, "block1", "block2")

    def views(self, batch: Batch, generator: torch.Generator, kinds: Sequence[str] = ()) -> Iterator[View]:
        """Yield the batch as it is or mirrored, labels and outputs alike."""
        self.view_kinds(kinds)
        while True:
            if torch.rand((), generator=generator, device=generator.device) < 0.5:
                yield View(_mirrored(batch), align=lambda outputs: outputs.flip(-1))
            else:
                yield View(batch)

    def occlude(self, batch: Batch, where: Tensor) -> Batch:
        """Set pixels to 0."""
        return batch.replace(inputs=batch.inputs.masked_fill(where[:, None], 0.0))


def _mirrored(batch: Batch) -> Batch:
    mixed = batch.mixed and dataclasses.replace(batch.mixed, targets=batch.mixed.targets.flip(-1))
    return batch.replace(inputs=batch.inputs.flip(-1), targets=batch.targets.flip(-1), mixed=mixed)


def _scenes(settings: ToyScenesSettings, split: Split, count: int) -> list[tuple[Tensor, Tensor]]:
    generator = stream(0, "toy scenes", split)
    samples = []
    for _ in range(count):
        image = 0.3 * torch.randn(1, settings.height, settings.width, generator=generator)
        labels = torch.zeros(settings.height, settings.width, dtype=torch.int64)
        for label, brightness in ((1, 1.5), (2, -1.5)):
            top = int(torch.randint(settings.height - 5, (), generator=generator))
            left = int(torch.randint(settings.width - 5, (), generator=generator))
            labels[top : top + 6, left : left + 6] = ToyScenes.ignore_index
            labels[top + 1 : top + 5, left + 1 : left + 5] = label
            image[0, top + 1 : top + 5, left + 1 : left + 5] = brightness
        samples.append((image, labels))
    return samples


class _ToyUNet(nn.Module):
    def __init__(self, in_channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.block1 = conv_block(in_channels, width)
        self.block2 = conv_block(width, 2 * width, stride=2)
        self.block3 = conv_block(3 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.block1(x)
        coarse = F.interpolate(self.block2(fine), size=fine.shape[-2:], mode="nearest")
        out: Tensor = self.head(self.block3(torch.cat([fine, coarse], dim=1)))
        return out


def build_toy_unet(settings: ToyUNetSettings, task: Task) -> nn.Module:
    """Build the model."""
    return _ToyUNet(task.in_channels, settings.width, len(task.classes))
