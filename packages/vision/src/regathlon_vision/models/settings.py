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


def _depth_of(model: str, depth: int, layers: int, others: int) -> None:
    if depth < layers + others or (depth - others) % layers:
        near = max(1, round((depth - others) / layers)) * layers + others
        raise UserError(f"The depth of {model} is {layers} n + {others}, such as {near}, not {depth}.")


@dataclass(frozen=True)
class ResNet8Settings(ModelSettings):
    """The smallest residual network of the CIFAR kind: three groups of one block.

    Attributes:
        width: Channels of the first group; the second has twice, the third four times as many.
    """

    name: ClassVar[str] = "resnet8"
    summary: ClassVar[str] = "residual network of 8 layers for small images"
    citation: ClassVar[str] = "he2016deep"
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
    citation: ClassVar[str] = "he2016deep"
    implementation: ClassVar[str] = "regathlon_vision.models.torchvision:build_resnet18"
    small_stem: bool = True


@dataclass(frozen=True)
class ResNet110Settings(ResNet8Settings):
    """The residual network of 110 layers for small images: three groups of 18 blocks.

    Attributes:
        width: Channels of the first group.
    """

    name: ClassVar[str] = "resnet110"
    summary: ClassVar[str] = "residual network of 110 layers for small images"
    citation: ClassVar[str] = "he2016deep"
    blocks: ClassVar[tuple[int, ...]] = (18, 18, 18)


@dataclass(frozen=True)
class ResNet50Settings(ModelSettings):
    """torchvision's ResNet-50, untrained.

    Attributes:
        small_stem: As for ``resnet18``; null where the task decides: for images of at most 64 pixels.
        tweaked: The D-type (He et al. 2019, arXiv 1812.01187, Figure 2): a stem of three 3x3 convolutions (unless it is
            small) and average pooling in shortcuts that halve the resolution.
    """

    name: ClassVar[str] = "resnet50"
    summary: ClassVar[str] = "torchvision's ResNet-50; ResNet-50-D with tweaked=true"
    citation: ClassVar[str] = "he2016deep"
    implementation: ClassVar[str] = "regathlon_vision.models.torchvision:build_bottleneck_resnet"
    blocks: ClassVar[tuple[int, ...]] = (3, 4, 6, 3)
    small_stem: bool | None = None
    tweaked: bool = False


@dataclass(frozen=True)
class ResNet152Settings(ResNet50Settings):
    """torchvision's ResNet-152, untrained; its settings are those of ``resnet50``."""

    name: ClassVar[str] = "resnet152"
    summary: ClassVar[str] = "torchvision's ResNet-152; ResNet-152-D with tweaked=true"
    citation: ClassVar[str] = "he2016deep"
    blocks: ClassVar[tuple[int, ...]] = (3, 8, 36, 3)


@dataclass(frozen=True)
class RegNetX200Settings(ModelSettings):
    """RegNetX-200MF, untrained; for images of at most 64 pixels the stem keeps the resolution."""

    name: ClassVar[str] = "regnetx-200mf"
    summary: ClassVar[str] = "RegNetX of 200 MFLOPs"
    citation: ClassVar[str] = "radosavovic2020designing"
    implementation: ClassVar[str] = "regathlon_vision.models.torchvision:build_regnet_x_200mf"


@dataclass(frozen=True)
class WideResNetSettings(ModelSettings):
    """Wide residual network WRN-depth-widen.

    Attributes:
        depth: 6 n + 4, at least 10.
        widen: How many times as wide as a plain residual network.
    """

    name: ClassVar[str] = "wrn"
    summary: ClassVar[str] = "wide residual network, WRN-28-10 unless told otherwise"
    citation: ClassVar[str] = "zagoruyko2016wide"
    implementation: ClassVar[str] = "regathlon_vision.models.wide_resnet:build_wide_resnet"
    depth: int = 28
    widen: int = 10

    def __post_init__(self) -> None:
        _at_least(1, widen=self.widen)
        _depth_of("wrn", self.depth, 6, 4)


@dataclass(frozen=True)
class PyramidNetSettings(ModelSettings):
    """Pyramidal residual network with bottlenecks.

    Attributes:
        depth: 9 n + 2, at least 11.
        widen: By how many channels the inner layers grow from the first block to the last.
    """

    name: ClassVar[str] = "pyramidnet"
    summary: ClassVar[str] = (
        "pyramidal residual network, PyramidNet-200 with widening 240 unless told otherwise"
    )
    citation: ClassVar[str] = "han2017deep"
    implementation: ClassVar[str] = "regathlon_vision.models.pyramidnet:build_pyramidnet"
    depth: int = 200
    widen: int = 240

    def __post_init__(self) -> None:
        _at_least(0, widen=self.widen)
        _depth_of("pyramidnet", self.depth, 9, 2)


@dataclass(frozen=True)
class UNetSettings(ModelSettings):
    """U-Net.

    Attributes:
        width: Channels at full resolution; they double with every step down.
        depth: Number of steps down, each halving the resolution.
    """

    name: ClassVar[str] = "unet"
    summary: ClassVar[str] = "U-Net: an encoder, a decoder and skips between them"
    citation: ClassVar[str] = "ronneberger2015unet"
    implementation: ClassVar[str] = "regathlon_vision.models.unet:build_unet"
    width: int = 16
    depth: int = 2

    def __post_init__(self) -> None:
        _at_least(1, width=self.width, depth=self.depth)
