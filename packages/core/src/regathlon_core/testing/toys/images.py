"""Images of bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core.features import FeaturePoint
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.rng import SampleDraw, stream
from regathlon_core.settings import ModelSettings, TaskSettings
from regathlon_core.task import Batch, Split, Task, View
from regathlon_core.testing.toys.base import SPLITS, ToyTask


@dataclass(frozen=True)
class ToyConvSettings(ModelSettings):
    """Two convolutions with batch-norm and a linear head."""

    name: ClassVar[str] = "toy_conv"
    summary: ClassVar[str] = "two convolutions with batch-norm"
    implementation: ClassVar[str] = "regathlon_core.testing.toys.images:build_toy_conv"
    width: int = 8


@dataclass(frozen=True)
class ToyImagesSettings(TaskSettings):
    """Images of three classes: a bright bar, horizontal, vertical or diagonal, in noise."""

    name: ClassVar[str] = "vision/toy"
    summary: ClassVar[str] = "bars of three directions in noise"
    implementation: ClassVar[str] = "regathlon_core.testing.toys.images:ToyImages"
    dataset: ClassVar[str] = "toy"
    provides: ClassVar[frozenset[str]] = frozenset(
        {
            "class_labels",
            "sample_labels",
            "grid_inputs",
            "features",
            "soft_loss",
            "views",
            "occlude",
            "unlabelled",
        }
    )
    views: ClassVar[tuple[str, ...]] = ("scale",)
    models: ClassVar[tuple[type[ModelSettings], ...]] = (ToyConvSettings,)
    recipe: ClassVar[Recipe] = Recipe(lr=0.05, batch_size=16, budget=Budget(epochs=2))
    metric: ClassVar[str] = "accuracy"
    samples: int = 96
    height: int = 12
    width: int = 10


class ToyImages(ToyTask):
    """See ``ToyImagesSettings``.

    Example:
        >>> task = ToyImages()
        >>> task.batch("train", torch.arange(4)).inputs.shape
        torch.Size([4, 1, 12, 10])
    """

    def __init__(self, settings: ToyImagesSettings | None = None, data: object = None) -> None:
        settings = settings if settings is not None else ToyImagesSettings()
        super().__init__(
            settings,
            {split: _bars(settings, split, count or settings.samples) for split, count in SPLITS.items()},
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return ("horizontal", "vertical", "diagonal")

    @property
    def in_channels(self) -> int:
        """One grey channel."""
        return 1

    def unlabelled(self, count: int, generator: torch.Generator) -> Tensor:
        """Return training images whose labels nobody asks for, flipped at random."""
        index = torch.randint(self.size("train"), (count,), generator=generator)
        seed = int(torch.randint(1 << 62, (), generator=generator))
        inputs: Tensor = self.batch("train", index, SampleDraw(seed, 0)).inputs
        return inputs

    def augment(self, inputs: Tensor, index: Tensor, draw: SampleDraw) -> Tensor:
        """Flip diagonals end to end, which keeps every class."""
        flip = draw.uniform(index, 1, purpose="flip")[:, :, None, None] < 0.5
        return torch.where(flip, inputs.flip((2, 3)), inputs)

    def features(self, model: nn.Module) -> Sequence[FeaturePoint]:
        """Return the outputs of both blocks."""
        return conv_blocks(model, "block1", "block2")

    def views(self, batch: Batch, generator: torch.Generator, kinds: Sequence[str] = ()) -> Iterator[View]:
        """Yield the batch at half or full size, chosen at random."""
        self.view_kinds(kinds)
        while True:
            half = torch.rand((), generator=generator, device=generator.device) < 0.5
            scale = 0.5 if bool(half) else 1.0
            inputs = (
                batch.inputs
                if scale == 1
                else F.interpolate(batch.inputs, scale_factor=scale, mode="bilinear")
            )
            yield View(batch.replace(inputs=inputs))

    def occlude(self, batch: Batch, where: Tensor) -> Batch:
        """Set pixels to 0."""
        return batch.replace(inputs=batch.inputs.masked_fill(where[:, None], 0.0))


def _bars(settings: ToyImagesSettings, split: Split, count: int) -> tuple[Tensor, Tensor]:
    generator = stream(0, "toy images", split)
    labels = torch.arange(count) % 3
    images = 0.3 * torch.randn(count, 1, settings.height, settings.width, generator=generator)
    side = min(settings.height, settings.width)
    place = torch.randint(side, (count,), generator=generator)
    steps = torch.arange(side)
    for image, label, at in zip(images, labels.tolist(), place.tolist(), strict=True):
        rows, columns = [(at, slice(None)), (slice(None), at), (steps, (steps + at) % side)][label]
        image[0, rows, columns] += 1.0
    return images, labels


def conv_blocks(model: nn.Module, *names: str) -> list[FeaturePoint]:
    """Return feature points for blocks that begin with a convolution."""
    return [
        FeaturePoint(name, channels=model.get_submodule(name)[0].out_channels)  # type: ignore[index]
        for name in names
    ]


def conv_block(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Sequential:
    """Return a 3x3 convolution, batch-norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class _ToyConv(nn.Module):
    def __init__(self, in_channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.block1 = conv_block(in_channels, width)
        self.block2 = conv_block(width, 2 * width, stride=2)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block2(self.block1(x))
        out: Tensor = self.head(x.amax(dim=(2, 3)))
        return out


def build_toy_conv(settings: ToyConvSettings, task: Task) -> nn.Module:
    """Build the model."""
    return _ToyConv(task.in_channels, settings.width, len(task.classes))
