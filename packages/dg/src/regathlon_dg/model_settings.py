"""The models of the domain-generalization tasks whose images lie in folders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.settings import ModelSettings


@dataclass(frozen=True)
class BackboneSettings(ModelSettings):
    """A network of torchvision's, whose classifier is replaced by one for the task's classes.

    Attributes:
        weights: ``"none"`` to begin from scratch; ``"imagenet"`` for torchvision's weights, which must lie in torch's cache of
            models; or the path of a file that holds a state dict of the network.
        freeze_norm: Whether batch-norm keeps the statistics of the weights, as in DomainBed.
    """

    implementation: ClassVar[str] = "regathlon_dg.backbones:build_backbone"
    weights: str = "none"
    freeze_norm: bool = False


@dataclass(frozen=True)
class ResNetSettings(BackboneSettings):
    """What torchvision's residual networks offer.

    Attributes:
        width: Channels of the first group; 64 is the network as it was published, and the one that weights fit.
    """

    width: int = 64

    def __post_init__(self) -> None:
        if self.width < 1:
            raise UserError(f"width must be at least 1, not {self.width}.")


@dataclass(frozen=True)
class ResNet18Settings(ResNetSettings):
    """torchvision's ResNet-18."""

    name: ClassVar[str] = "resnet18"
    summary: ClassVar[str] = "ResNet-18"


@dataclass(frozen=True)
class ResNet50Settings(ResNetSettings):
    """torchvision's ResNet-50."""

    name: ClassVar[str] = "resnet50"
    summary: ClassVar[str] = "ResNet-50"


@dataclass(frozen=True)
class AlexNetSettings(BackboneSettings):
    """torchvision's AlexNet, for images of at least 63 pixels."""

    name: ClassVar[str] = "alexnet"
    summary: ClassVar[str] = "AlexNet"


@dataclass(frozen=True)
class DigitsNetSettings(ModelSettings):
    """Four convolutions, each followed by pooling (Zhou et al. 2020).

    Attributes:
        width: Channels of every convolution.
    """

    name: ClassVar[str] = "digitsnet"
    summary: ClassVar[str] = "four convolutions for digits of 32 pixels"
    implementation: ClassVar[str] = "regathlon_dg.digitsnet:build_digitsnet"
    width: int = 64

    def __post_init__(self) -> None:
        if self.width < 1:
            raise UserError(f"width must be at least 1, not {self.width}.")
