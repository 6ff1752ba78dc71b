"""The domain-generalization tasks whose images lie in folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError, unknown
from regathlon_core.settings import ModelSettings
from regathlon_dg import layouts as known
from regathlon_dg import protocols as published
from regathlon_dg.layouts import Layout
from regathlon_dg.model_settings import AlexNetSettings, DigitsNetSettings, ResNet18Settings, ResNet50Settings
from regathlon_dg.protocols import Protocol
from regathlon_dg.settings import DomainSettings


@dataclass(frozen=True)
class FolderSettings(DomainSettings):
    """What tasks whose images lie in folders offer.

    Attributes:
        protocol: The published way of splitting, augmenting and training (``protocols`` of the task).
        size: Side in pixels that images are brought to.
        split: Number of the random split, for protocols and layouts without parts of their own.
    """

    implementation: ClassVar[str] = "regathlon_dg.folders:FolderTask"
    layouts: ClassVar[tuple[Layout, ...]]
    """Where the files may lie; the first that is there counts."""
    protocols: ClassVar[Mapping[str, Protocol]]
    """By name; the first is the default."""
    corrupt: ClassVar[tuple[str, ...]] = ()
    """Files that are known to be damaged and are left out, relative to the data set's folder."""
    mean: ClassVar[tuple[float, ...]] = (0.485, 0.456, 0.406)
    """What is subtracted from red, green and blue in [0, 1]: ImageNet's means."""
    std: ClassVar[tuple[float, ...]] = (0.229, 0.224, 0.225)
    """What they are divided by."""
    protocol: str = "rsc"
    size: int = 224
    split: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.protocol not in self.protocols:
            raise unknown(f"protocol of {self.name}", str(self.protocol), self.protocols)
        if self.size < 8:
            raise UserError(f"{self.name}: size must be at least 8 pixels, not {self.size}.")
        # The class names the default protocol's recipe; a trial's is that of its own.
        object.__setattr__(self, "recipe", self.protocols[self.protocol].recipe)


@dataclass(frozen=True)
class PhotoSettings(FolderSettings):
    """What tasks of photographs, paintings and drawings offer."""

    protocols: ClassVar[Mapping[str, Protocol]] = published.PHOTOS
    recipe = published.PHOTOS["rsc"].recipe
    models: ClassVar[tuple[type[ModelSettings], ...]] = (ResNet18Settings, ResNet50Settings, AlexNetSettings)


@dataclass(frozen=True)
class PACSSettings(PhotoSettings):
    """PACS: seven classes in art paintings, cartoons, photos and sketches (Li et al. 2017, arXiv 1710.03077)."""

    name: ClassVar[str] = "dg/pacs"
    summary: ClassVar[str] = "PACS: art paintings, cartoons, photos, sketches; 7 classes, 9991 images"
    dataset: ClassVar[str] = "pacs"
    domains: ClassVar[tuple[str, ...]] = tuple(name for name, _ in known.PACS[0].domains)
    layouts: ClassVar[tuple[Layout, ...]] = known.PACS
    corrupt: ClassVar[tuple[str, ...]] = ("sketch/dog/n02103406_4068-1.png",)


@dataclass(frozen=True)
class VLCSSettings(PhotoSettings):
    """VLCS: five classes in the photos of four other data sets (Torralba & Efros 2011; Fang et al. 2013)."""

    name: ClassVar[str] = "dg/vlcs"
    summary: ClassVar[str] = "VLCS: Caltech-101, LabelMe, VOC 2007, SUN09; 5 classes, 10729 images"
    dataset: ClassVar[str] = "vlcs"
    domains: ClassVar[tuple[str, ...]] = tuple(name for name, _ in known.VLCS[0].domains)
    layouts: ClassVar[tuple[Layout, ...]] = known.VLCS


@dataclass(frozen=True)
class OfficeHomeSettings(PhotoSettings):
    """Office-Home: 65 classes of things in art, clip art, shops and the real world (Venkateswara et al. 2017)."""

    name: ClassVar[str] = "dg/officehome"
    summary: ClassVar[str] = (
        "Office-Home: art, clip art, product and real-world images; 65 classes, 15588 images"
    )
    dataset: ClassVar[str] = "officehome"
    domains: ClassVar[tuple[str, ...]] = tuple(name for name, _ in known.OFFICE_HOME[0].domains)
    layouts: ClassVar[tuple[Layout, ...]] = known.OFFICE_HOME


@dataclass(frozen=True)
class TerraIncognitaSettings(PhotoSettings):
    """Terra Incognita: animals before four camera traps, ten classes (Beery et al. 2018, arXiv 1807.04975)."""

    name: ClassVar[str] = "dg/terraincognita"
    summary: ClassVar[str] = "Terra Incognita: four camera traps; 10 classes, 24788 images"
    dataset: ClassVar[str] = "terraincognita"
    domains: ClassVar[tuple[str, ...]] = tuple(name for name, _ in known.TERRA_INCOGNITA[0].domains)
    layouts: ClassVar[tuple[Layout, ...]] = known.TERRA_INCOGNITA


@dataclass(frozen=True)
class DomainNetSettings(PhotoSettings):
    """DomainNet: 345 classes in six kinds of picture (Peng et al. 2019, arXiv 1812.01754)."""

    name: ClassVar[str] = "dg/domainnet"
    summary: ClassVar[str] = "DomainNet: six kinds of picture; 345 classes, 586575 images"
    dataset: ClassVar[str] = "domainnet"
    domains: ClassVar[tuple[str, ...]] = tuple(name for name, _ in known.DOMAIN_NET[0].domains)
    layouts: ClassVar[tuple[Layout, ...]] = known.DOMAIN_NET


@dataclass(frozen=True)
class DigitsDGSettings(FolderSettings):
    """Digits-DG: MNIST, MNIST-M, SVHN and SYN, 600 digits of each class in each (Zhou et al. 2020, arXiv 2007.03304)."""

    name: ClassVar[str] = "dg/digits-dg"
    summary: ClassVar[str] = "Digits-DG: MNIST, MNIST-M, SVHN, SYN; 10 classes, 24000 images"
    dataset: ClassVar[str] = "digits-dg"
    domains: ClassVar[tuple[str, ...]] = ("mnist", "mnist_m", "svhn", "syn")
    layouts: ClassVar[tuple[Layout, ...]] = known.DIGITS
    protocols: ClassVar[Mapping[str, Protocol]] = published.DIGITS
    recipe = published.DIGITS["dassl"].recipe
    models: ClassVar[tuple[type[ModelSettings], ...]] = (DigitsNetSettings, ResNet18Settings)
    mean: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5)
    std: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5)
    protocol: str = "dassl"
    size: int = 32


@dataclass(frozen=True)
class FiveDigitsSettings(DigitsDGSettings):
    """MNIST, MNIST-M, USPS, SVHN and SYN: the five domains in Table 1 of the GSNR paper's supplement."""

    name: ClassVar[str] = "dg/digits-five"
    summary: ClassVar[str] = "five sets of digits: MNIST, MNIST-M, USPS, SVHN, SYN; 10 classes"
    domains: ClassVar[tuple[str, ...]] = tuple(name for name, _ in known.DIGITS[0].domains)
