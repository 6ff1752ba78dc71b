"""The models that image tasks offer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.settings import ModelSettings


def _at_least(least: int, **settings: int) -> None:
    for name, value in settings.items():
        if value < least:
            raise UserError(f"{name} must be at least {least}, not {value}.")


@dataclass(frozen=True)
class ResNet8Settings(ModelSettings):
    """The smallest residual network of the CIFAR kind: three groups of one block.

    Attributes:
        width: Channels of the first group; the second has twice, the third four times as many.
    """

    name: ClassVar[str] = "resnet8"
    summary: ClassVar[str] = "residual network of 8 layers for small images"
    implementation: ClassVar[str] = "regathlon_vision.models.resnet:build_resnet"
    blocks: ClassVar[tuple[int, ...]] = (1, 1, 1)
    width: int = 16

    def __post_init__(self) -> None:
        _at_least(1, width=self.width)


@dataclass(frozen=True)
class ResNet18Settings(ModelSettings):
    """torchvision's ResNet-18, untrained.

    Attributes:
        small_stem: For small images: a 3x3 convolution of stride 1 and no max-pooling before the first group,
            instead of the 7x7 convolution and the pooling that together divide the resolution by 4.
    """

    name: ClassVar[str] = "resnet18"
    summary: ClassVar[str] = "torchvision's ResNet-18, optionally with a stem for small images"
    implementation: ClassVar[str] = "regathlon_vision.models.torchvision:build_resnet18"
    small_stem: bool = True


@dataclass(frozen=True)
class UNetSettings(ModelSettings):
    """U-Net.

    Attributes:
        width: Channels at full resolution; they double with every step down.
        depth: Number of steps down, each halving the resolution.
    """

    name: ClassVar[str] = "unet"
    summary: ClassVar[str] = "U-Net: an encoder, a decoder and skips between them"
    implementation: ClassVar[str] = "regathlon_vision.models.unet:build_unet"
    width: int = 16
    depth: int = 2

    def __post_init__(self) -> None:
        _at_least(1, width=self.width, depth=self.depth)
