"""The classification tasks."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from regathlon_core.errors import UserError, unknown
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.settings import ModelSettings, TaskSettings
from regathlon_vision.models.settings import (
    PyramidNetSettings,
    RegNetX200Settings,
    ResNet8Settings,
    ResNet18Settings,
    ResNet50Settings,
    ResNet110Settings,
    ResNet152Settings,
    WideResNetSettings,
)


@dataclass(frozen=True)
class ClassificationSettings(TaskSettings):
    """What tasks of one class per image offer."""

    provides: ClassVar[frozenset[str]] = frozenset(
        {
            "class_labels",
            "sample_labels",
            "grid_inputs",
            "pixels",
            "features",
            "residual",
            "views",
            "soft_loss",
            "occlude",
        }
    )
    views: ClassVar[tuple[str, ...]] = ("scale", "rotation")
    metric: ClassVar[str] = "accuracy"


@dataclass(frozen=True)
class DigitsSettings(ClassificationSettings):
    """The UCI handwritten digits: 8x8 pixels, ten classes, mostly by other hands in the test set."""

    name: ClassVar[str] = "vision/digits"
    summary: ClassVar[str] = "handwritten digits, 8x8 pixels, 1078 to train on"
    implementation: ClassVar[str] = "regathlon_vision.classification.digits:DigitsTask"
    dataset: ClassVar[str] = "digits"
    models: ClassVar[tuple[type[ModelSettings], ...]] = (ResNet8Settings, ResNet18Settings)
    recipe: ClassVar[Recipe] = Recipe(lr=0.1, weight_decay=5e-4, batch_size=64, budget=Budget(epochs=30))


Source = Literal["full", "subset"]

WRN_RECIPE = Recipe(
    lr=0.1, weight_decay=5e-4, nesterov=True, schedule="cosine", batch_size=128, budget=Budget(epochs=200)
)
"""How GradAug trains WRN-28-10 on CIFAR (arXiv 2006.07989, section 4.2)."""


@dataclass(frozen=True)
class CifarSettings(ClassificationSettings):
    """What CIFAR-10 and CIFAR-100 declare alike.

    Attributes:
        labels: How many training images have labels, the same number of each class; 0 for all of them. The others
            are the task's unlabelled images.
        split: Which of the fixed splits of ``labels`` to use, at least 0; null for the one of the trial's seed, 0 to 4
            (0 where there is no trial).
        validation: Training images held out for validation before labels are chosen; 0 for none.
        padding: Largest shift of a training image, in pixels.
        noise: Standard deviation of noise added to normalised training images.
        source: ``"full"``, the original files; ``"subset"``, a part of them in one folder per class.
    """

    provides: ClassVar[frozenset[str]] = ClassificationSettings.provides | {"unlabelled"}
    implementation: ClassVar[str] = "regathlon_vision.classification.cifar:CifarTask"
    models: ClassVar[tuple[type[ModelSettings], ...]] = (
        WideResNetSettings,
        ResNet18Settings,
        ResNet50Settings,
        ResNet110Settings,
        PyramidNetSettings,
        RegNetX200Settings,
        ResNet8Settings,
    )
    recipe: ClassVar[Recipe] = WRN_RECIPE
    classes: ClassVar[int]
    """How many classes there are."""
    subset_train: ClassVar[str]
    """Folder of the subset's training images, below the data root."""
    subset_test: ClassVar[str]
    pixel_mean: ClassVar[tuple[float, float, float]]
    """Of the training images, per colour, of pixels in [0, 1]."""
    pixel_std: ClassVar[tuple[float, float, float]]
    labels: int = 0
    split: int | None = None
    validation: int = 0
    padding: int = 4
    noise: float = 0.0
    source: Source = "full"

    def __post_init__(self) -> None:
        for name in ("labels", "split", "validation", "padding"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise UserError(f"{self.name}: {name} must be at least 0, not {value}.")
        for name in ("labels", "validation"):
            if getattr(self, name) % self.classes:
                raise UserError(
                    f"{self.name}: {name} must be a multiple of its {self.classes} classes, not {getattr(self, name)}."
                )
        if self.padding > 31:
            raise UserError(f"{self.name}: padding must be below 32 pixels, not {self.padding}.")
        if not 0 <= self.noise < math.inf:
            raise UserError(f"{self.name}: noise must be a finite number of at least 0, not {self.noise}.")
        if self.source not in get_args(Source):
            raise unknown(f"source of {self.name}", self.source, get_args(Source))

    def of_seed(self, seed: int) -> CifarSettings:
        """Return the task with the split of a trial's seed, where none is named and not all images have labels."""
        return dataclasses.replace(self, split=seed % 5) if self.labels and self.split is None else self

    @property
    def dataset(self) -> str:  # type: ignore[override]
        """Name of the manifest: the subset is a data set of its own."""
        name = self.name.partition("/")[2]
        return f"{name}-subset" if self.source == "subset" else name


@dataclass(frozen=True)
class Cifar10Settings(CifarSettings):
    """CIFAR-10: 32x32 colour images of ten classes, 50,000 to train on and 10,000 to test."""

    name: ClassVar[str] = "vision/cifar10"
    summary: ClassVar[str] = "CIFAR-10, or with labels=1000 a part of it and unlabelled images"
    classes: ClassVar[int] = 10
    subset_train: ClassVar[str] = "cifar10_subset/train"
    subset_test: ClassVar[str] = "cifar10_test"
    pixel_mean: ClassVar[tuple[float, float, float]] = (0.4914, 0.4822, 0.4465)
    pixel_std: ClassVar[tuple[float, float, float]] = (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class Cifar100Settings(CifarSettings):
    """CIFAR-100: 32x32 colour images of a hundred classes, 50,000 to train on and 10,000 to test."""

    name: ClassVar[str] = "vision/cifar100"
    summary: ClassVar[str] = "CIFAR-100, or with labels=10000 a part of it and unlabelled images"
    classes: ClassVar[int] = 100
    subset_train: ClassVar[str] = "cifar100_subset/train"
    subset_test: ClassVar[str] = "cifar100_subset/test"
    pixel_mean: ClassVar[tuple[float, float, float]] = (0.5071, 0.4865, 0.4409)
    pixel_std: ClassVar[tuple[float, float, float]] = (0.2673, 0.2564, 0.2762)


@dataclass(frozen=True)
class Stl10Settings(ClassificationSettings):
    """STL-10: 96x96 colour images of ten classes, 5000 to train on, 8000 to test, and 100,000 without labels.

    Attributes:
        labels: 1000 for one of the ten predefined folds; 0 for all training images.
        split: Which fold, 0 to 9, with ``labels=1000``; null for the one of the trial's seed (0 where there is no trial).
        side: Pixels a side that images are resized to: 96, 48 or 32.
        padding: Largest shift of a training image, in pixels.
    """

    provides: ClassVar[frozenset[str]] = ClassificationSettings.provides | {"unlabelled"}
    name: ClassVar[str] = "vision/stl10"
    summary: ClassVar[str] = "STL-10, with its unlabelled images"
    implementation: ClassVar[str] = "regathlon_vision.classification.stl10:Stl10Task"
    dataset: ClassVar[str] = "stl10"
    models: ClassVar[tuple[type[ModelSettings], ...]] = (
        WideResNetSettings,
        ResNet18Settings,
        ResNet8Settings,
    )
    recipe: ClassVar[Recipe] = WRN_RECIPE
    labels: int = 1000
    split: int | None = None
    side: int = 96
    padding: int = 12

    def __post_init__(self) -> None:
        if self.labels not in (0, 1000):
            raise UserError(f"{self.name}: labels is 1000 (a fold) or 0 (all), not {self.labels}.")
        if self.split is not None and not 0 <= self.split <= 9:
            raise UserError(f"{self.name}: split is one of the folds 0 to 9, not {self.split}.")
        if self.side not in (96, 48, 32):
            raise UserError(f"{self.name}: side is 96, 48 or 32 pixels, not {self.side}.")
        if not 0 <= self.padding < self.side:
            raise UserError(f"{self.name}: padding lies in 0 to {self.side - 1} pixels, not {self.padding}.")

    def of_seed(self, seed: int) -> Stl10Settings:
        """Return the task with the fold of a trial's seed, where none is named."""
        return dataclasses.replace(self, split=seed % 10) if self.labels and self.split is None else self


@dataclass(frozen=True)
class ImageNetSettings(ClassificationSettings):
    """ImageNet (ILSVRC 2012): photographs of 1000 classes, 1.28 million to train on and 50,000 to test.

    Attributes:
        side: Pixels a side of the inputs.
        colours: Whether the colours of training images change at random.
    """

    name: ClassVar[str] = "vision/imagenet"
    summary: ClassVar[str] = "ImageNet, 1000 classes of photographs"
    implementation: ClassVar[str] = "regathlon_vision.classification.folders:ImageNetTask"
    dataset: ClassVar[str] = "imagenet"
    models: ClassVar[tuple[type[ModelSettings], ...]] = (
        ResNet50Settings,
        ResNet152Settings,
        RegNetX200Settings,
    )
    recipe: ClassVar[Recipe] = Recipe(
        lr=0.2, weight_decay=1e-4, nesterov=True, schedule="cosine", batch_size=512, budget=Budget(epochs=120)
    )
    side: int = 224
    colours: bool = True

    def __post_init__(self) -> None:
        if self.side < 32:
            raise UserError(f"{self.name}: side must be at least 32 pixels, not {self.side}.")


@dataclass(frozen=True)
class TinyImageNetSettings(ClassificationSettings):
    """Tiny ImageNet: 64x64 colour images of 200 classes, 100,000 to train on and 10,000 to test.

    Attributes:
        padding: Largest shift of a training image, in pixels.
    """

    name: ClassVar[str] = "vision/tiny-imagenet"
    summary: ClassVar[str] = "Tiny ImageNet, 200 classes of 64x64 pixels"
    implementation: ClassVar[str] = "regathlon_vision.classification.folders:TinyImageNetTask"
    dataset: ClassVar[str] = "tiny-imagenet"
    models: ClassVar[tuple[type[ModelSettings], ...]] = (
        ResNet18Settings,
        WideResNetSettings,
        ResNet8Settings,
    )
    recipe: ClassVar[Recipe] = WRN_RECIPE
    padding: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.padding < 64:
            raise UserError(f"{self.name}: padding lies in 0 to 63 pixels, not {self.padding}.")
