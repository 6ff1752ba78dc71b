"""Models that give every pixel a class, beside the U-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.settings import ModelSettings
from regathlon_vision.models.settings import UNetSettings


@dataclass(frozen=True)
class AttentionUNetSettings(UNetSettings):
    """Attention U-Net: what the encoder hands to the decoder passes gates.

    Attributes:
        width: Channels at full resolution; they double with every step down.
        depth: Number of steps down, each halving the resolution.
    """

    name: ClassVar[str] = "attention-unet"
    summary: ClassVar[str] = "U-Net whose skips pass attention gates"
    implementation: ClassVar[str] = "regathlon_vision.models.attention_unet:build_attention_unet"
    citation: ClassVar[str] = "oktay2018attention"


@dataclass(frozen=True)
class _OnResNet(ModelSettings):
    blocks: tuple[int, ...] = (3, 4, 6, 3)

    def __post_init__(self) -> None:
        if len(self.blocks) != 4 or not all(isinstance(count, int) and count > 0 for count in self.blocks):
            raise UserError(f"{self.name}: blocks are four counts of at least 1, not {list(self.blocks)}.")


@dataclass(frozen=True)
class Fcn32sSettings(_OnResNet):
    """FCN-32s on an untrained ResNet.

    Attributes:
        blocks: Bottleneck blocks of each group; (3, 4, 6, 3) is ResNet-50.
    """

    name: ClassVar[str] = "fcn32s"
    summary: ClassVar[str] = "FCN-32s on ResNet-50: scores at a 32nd of the resolution, upsampled"
    implementation: ClassVar[str] = "regathlon_vision.models.dense:build_fcn32s"
    citation: ClassVar[str] = "long2015fully he2016deep"


@dataclass(frozen=True)
class DeepLabV3Settings(_OnResNet):
    """torchvision's DeepLabV3 on an untrained ResNet.

    Attributes:
        blocks: Bottleneck blocks of each group; (3, 4, 6, 3) is ResNet-50.
    """

    name: ClassVar[str] = "deeplabv3"
    summary: ClassVar[str] = "torchvision's DeepLabV3 on ResNet-50: dilated convolutions, spatial pyramid"
    implementation: ClassVar[str] = "regathlon_vision.models.dense:build_deeplabv3"
    citation: ClassVar[str] = "chen2017rethinking he2016deep"
