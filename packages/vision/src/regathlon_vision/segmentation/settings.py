"""The segmentation tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from regathlon_core.errors import UserError, unknown
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.settings import ModelSettings, TaskSettings
from regathlon_vision.models.dense_settings import AttentionUNetSettings, DeepLabV3Settings, Fcn32sSettings
from regathlon_vision.models.settings import UNetSettings


@dataclass(frozen=True)
class SegmentationSettings(TaskSettings):
    """What tasks of one class per pixel offer."""

    provides: ClassVar[frozenset[str]] = frozenset(
        {"class_labels", "grid_inputs", "features", "views", "soft_loss", "occlude"}
    )
    views: ClassVar[tuple[str, ...]] = ("scale", "rotation")
    metric: ClassVar[str] = "miou"


@dataclass(frozen=True)
class ScenesSettings(SegmentationSettings):
    """Scenes of handwritten digits on coloured canvases: which digit, if any, does each pixel belong to?"""

    name: ClassVar[str] = "segmentation/scenes"
    summary: ClassVar[str] = "handwritten digits on coloured canvases, 32x32 pixels, 256 scenes to train on"
    implementation: ClassVar[str] = "regathlon_vision.segmentation.scenes:ScenesTask"
    dataset: ClassVar[str] = "digit-scenes"
    models: ClassVar[tuple[type[ModelSettings], ...]] = (UNetSettings,)
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adamw", lr=1e-2, weight_decay=1e-2, warmup=0.15, batch_size=4, budget=Budget(epochs=20)
    )


@dataclass(frozen=True)
class PairFolderSettings(SegmentationSettings):
    """A folder of one's own: ``<folder>/{train,val,test}/{images,masks}``, an image and its mask of the same name.

    Masks are gray or palette images whose values are the numbers of classes; 255 does not count.

    Attributes:
        folder: Its name, relative to the data root.
        classes: Number of classes, the background included.
        foreground: Whether all values but 0 mean class 1, as in masks of 0 and 255.
        size: Side of the samples; larger images are made smaller, smaller ones filled up.
        rotation: Largest random rotation either way, in degrees.
        zoom: Smallest and largest random magnification.
        mirror: Whether to mirror left to right at random.
        flip: Whether to turn upside down at random.
        revision: Raise it whenever the files change: it is what tells trials on them apart.
    """

    name: ClassVar[str] = "segmentation/folder"
    summary: ClassVar[str] = "a folder of one's own of images and masks"
    implementation: ClassVar[str] = "regathlon_vision.segmentation.folder:PairFolderTask"
    dataset: ClassVar[str] = "pair-folder"
    models: ClassVar[tuple[type[ModelSettings], ...]] = (
        UNetSettings,
        AttentionUNetSettings,
        Fcn32sSettings,
        DeepLabV3Settings,
    )
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adam", lr=1e-3, weight_decay=1e-4, batch_size=8, budget=Budget(epochs=50)
    )
    folder: str = ""
    classes: int = 2
    foreground: bool = False
    size: int = 256
    rotation: float = 0.0
    zoom: tuple[float, ...] = (1.0, 1.0)
    mirror: bool = True
    flip: bool = False
    revision: int = 1

    def __post_init__(self) -> None:
        _at_least(self, 2, "classes")
        _at_least(self, 1, "size")
        if self.classes > 255:
            raise UserError(f"{self.name}: classes must be at most 255, not {self.classes}.")
        if self.foreground and self.classes != 2:
            raise UserError(f"{self.name}: foreground=true means two classes, not {self.classes}.")
        if len(self.zoom) != 2 or not 0 < self.zoom[0] <= self.zoom[1]:
            raise UserError(
                f"{self.name}: zoom is a smallest and a largest magnification above 0, not {list(self.zoom)}."
            )
        if not 0 <= self.rotation <= 180:
            raise UserError(f"{self.name}: rotation is an angle of 0 to 180 degrees, not {self.rotation}.")


@dataclass(frozen=True)
class MoNuSegSettings(SegmentationSettings):
    """MoNuSeg: nuclei in stained tissue of seven organs, 30 images to train on and 14 to test (Kumar et al., 2017).

    Attributes:
        crop: Side of the squares that are cut out of the four corners of every image.
        source: ``"full"``: images of 1000 by 1000 pixels in ``MoNuSeg/{train,test}/images`` and their XML files in
            ``annotations``; ``"tiles"``: small tiles in ``images`` and black and white ones in ``masks``.
    """

    name: ClassVar[str] = "segmentation/monuseg"
    summary: ClassVar[str] = "MoNuSeg: nuclei in stained tissue, squares of 512 pixels from the corners"
    implementation: ClassVar[str] = "regathlon_vision.segmentation.monuseg:MoNuSegTask"
    models: ClassVar[tuple[type[ModelSettings], ...]] = (UNetSettings, AttentionUNetSettings)
    metric: ClassVar[str] = "foreground_iou"
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adam",
        lr=0.01,
        weight_decay=0.0,
        schedule="cosine",
        batch_size=2,
        budget=Budget(steps=75_000),
    )
    crop: int = 512
    source: Literal["full", "tiles"] = "full"

    def __post_init__(self) -> None:
        _at_least(self, 1, "crop")
        if self.source not in ("full", "tiles"):
            raise unknown(f"source of {self.name}", self.source, ("full", "tiles"))
        if self.source == "full" and self.crop <= _TILE:
            raise UserError(f"{self.name}: squares of {self.crop} pixels are tiles; say source=tiles.")

    @property
    def dataset(self) -> str:  # type: ignore[override]
        """Name of the manifest: the tiles are a data set of their own."""
        return "monuseg-tiles" if self.source == "tiles" else "monuseg"


@dataclass(frozen=True)
class VocSettings(SegmentationSettings):
    """Pascal VOC 2012: 20 classes of objects and the background; 10,582 images to train on with SBD's masks.

    Attributes:
        sbd: Whether to train on the images with masks of SBD too; else on VOC's own 1,464.
        crop: Side of training samples.
    """

    name: ClassVar[str] = "segmentation/voc"
    summary: ClassVar[str] = "Pascal VOC 2012 with SBD: 20 classes of objects, 10,582 images to train on"
    implementation: ClassVar[str] = "regathlon_vision.segmentation.voc:VocTask"
    dataset: ClassVar[str] = "voc"
    models: ClassVar[tuple[type[ModelSettings], ...]] = (Fcn32sSettings, DeepLabV3Settings, UNetSettings)
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adam",
        lr=1e-3,
        min_lr=1e-5,
        weight_decay=1e-4,
        schedule="cosine",
        batch_size=64,
        budget=Budget(epochs=400),
        eval_every=10,
    )
    sbd: bool = True
    crop: int = 224

    def __post_init__(self) -> None:
        _at_least(self, 1, "crop")


_TILE = 256


def _at_least(settings: TaskSettings, least: int, field: str) -> None:
    value = getattr(settings, field)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(
            f"{settings.name}: {field} must be a whole number of at least {least}, not {value!r}."
        )
