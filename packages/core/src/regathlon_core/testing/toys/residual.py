"""Images of bars, for a residual network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core.features import FeaturePoint
from regathlon_core.settings import ModelSettings
from regathlon_core.task import Task
from regathlon_core.testing.toys.images import ToyImages, ToyImagesSettings


@dataclass(frozen=True)
class ToyResNetSettings(ModelSettings):
    """A convolution and two residual blocks, the second with a projection on its shortcut."""

    name: ClassVar[str] = "toy_resnet"
    summary: ClassVar[str] = "two residual blocks"
    implementation: ClassVar[str] = "regathlon_core.testing.toys.residual:build_toy_resnet"
    width: int = 6


@dataclass(frozen=True)
class ToyResidualSettings(ToyImagesSettings):
    """The images of ``ToyImages`` for a residual network."""

    name: ClassVar[str] = "vision/toy_residual"
    summary: ClassVar[str] = "bars of three directions in noise, for a residual network"
    implementation: ClassVar[str] = "regathlon_core.testing.toys.residual:ToyResidual"
    provides: ClassVar[frozenset[str]] = ToyImagesSettings.provides | {"residual"}
    models: ClassVar[tuple[type[ModelSettings], ...]] = (ToyResNetSettings,)


class ToyResidual(ToyImages):
    """See ``ToyResidualSettings``.

    Example:
        >>> import torch
        >>> task = ToyResidual()
        >>> task.model(seed=0)(task.batch("train", torch.arange(4)).inputs).shape
        torch.Size([4, 3])
    """

    def __init__(self, settings: ToyResidualSettings | None = None, data: object = None) -> None:
        super().__init__(settings if settings is not None else ToyResidualSettings())

    def features(self, model: nn.Module) -> Sequence[FeaturePoint]:
        """Return the outputs of both blocks."""
        return [FeaturePoint(name, channels=model.get_submodule(name).bn2.num_features) for name in _BLOCKS]  # type: ignore[union-attr, arg-type]


_BLOCKS = ("block1", "block2")


class _Block(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.projection = (
            nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False) if stride > 1 else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(self.projection(x) + branch)


class _ToyResNet(nn.Module):
    def __init__(self, in_channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1)
        self.block1 = _Block(width, width, 1)
        self.block2 = _Block(width, 2 * width, 2)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block2(self.block1(self.stem(x)))
        out: Tensor = self.head(x.amax(dim=(2, 3)))
        return out


def build_toy_resnet(settings: ToyResNetSettings, task: Task) -> nn.Module:
    """Build the model."""
    return _ToyResNet(task.in_channels, settings.width, len(task.classes))
