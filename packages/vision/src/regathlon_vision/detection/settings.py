"""The detection tasks and their models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

from regathlon_core.errors import UserError, unknown
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.settings import ModelSettings, TaskSettings

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class ResNetFPNSettings(ModelSettings):
    """What torchvision's detectors on a ResNet with a feature pyramid (FPN) have in common.

    Attributes:
        depth: Layers of the ResNet: 18, 34, 50 or 101.
        weights: File with the state dict of a ResNet trained on ImageNet (torchvision's keys; the classifier's are not
            used); empty for random initialisation. A trial is known by the file's contents, not by its path.
        norm: ``"frozen"``: batch-norm in the backbone keeps the statistics and the affine map that it begins with, as
            is usual with pretrained weights; ``"batch"``: it is trained; None for the former with weights and the
            latter without.
        frozen_stages: How many stages of the backbone are not trained: 1 is the stem, 2 also ``layer1``, ...; None for
            2 with weights and 0 without.
    """

    weight_files: ClassVar[tuple[str, ...]] = ("weights",)
    depth: int = 50
    weights: str = ""
    norm: Literal["frozen", "batch"] | None = None
    frozen_stages: int | None = None

    def __post_init__(self) -> None:
        if self.depth not in (18, 34, 50, 101):
            raise UserError(f"depth is 18, 34, 50 or 101, not {self.depth}.")
        if self.norm not in ("frozen", "batch", None):
            raise UserError(f"norm is 'frozen', 'batch' or null, not {self.norm!r}.")
        if self.frozen_stages is not None and not 0 <= self.frozen_stages <= 5:
            raise UserError(f"frozen_stages is a number of stages in 0..5, not {self.frozen_stages}.")
        if not self.weights and (self.norm == "frozen" or self.frozen_stages):
            raise UserError("Without weights there is nothing to freeze: give weights, or norm=batch.")

    @property
    def norms_frozen(self) -> bool:
        """Whether batch-norm in the backbone rests."""
        return self.norm == "frozen" or (self.norm is None and bool(self.weights))

    @property
    def stages_frozen(self) -> int:
        """How many stages of the backbone are not trained."""
        return self.frozen_stages if self.frozen_stages is not None else 2 * bool(self.weights)


@dataclass(frozen=True)
class MaskRCNNSettings(ResNetFPNSettings):
    """torchvision's Mask R-CNN on a ResNet with FPN."""

    name: ClassVar[str] = "mask_rcnn"
    summary: ClassVar[str] = "Mask R-CNN on a ResNet-50 with FPN"
    implementation: ClassVar[str] = "regathlon_vision.detection.models:build_mask_rcnn"
    citation: ClassVar[str] = "he2017mask lin2017feature"


@dataclass(frozen=True)
class FasterRCNNSettings(ResNetFPNSettings):
    """torchvision's Faster R-CNN on a ResNet with FPN: boxes, no masks."""

    name: ClassVar[str] = "faster_rcnn"
    summary: ClassVar[str] = "Faster R-CNN on a ResNet-50 with FPN"
    implementation: ClassVar[str] = "regathlon_vision.detection.models:build_faster_rcnn"
    citation: ClassVar[str] = "ren2015faster lin2017feature"


@dataclass(frozen=True)
class MMDetSettings(ResNetFPNSettings):
    """What MMDetection's detectors on a ResNet with a feature pyramid (FPN) have in common.

    Defaults are those of its configs but for the backbone, which is trained as a whole unless it is given weights. Frozen
    stages rest as MMDetection's do, batch-norm's statistics included.

    Attributes:
        width: Channels of the backbone's first group; 64 with weights.
        channels: Channels of the feature pyramid and of the heads; the fully connected layers have four times as many.
        anchor_scale: Side of a square anchor in strides of its level, which are 4, 8, 16, 32 and 64 pixels.
    """

    requires: ClassVar[Mapping[str, str]] = MappingProxyType({"mmdet": "regathlon-vision[mmdet]"})
    width: int = 64
    channels: int = 256
    anchor_scale: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("width", "channels", "anchor_scale"):
            if getattr(self, field) < 1:
                raise UserError(f"{field} must be at least 1, not {getattr(self, field)}.")
        if self.weights and self.width != 64:
            raise UserError(f"Weights are those of a backbone with width=64, not {self.width}.")


@dataclass(frozen=True)
class MMDetMaskRCNNSettings(MMDetSettings):
    """MMDetection's Mask R-CNN on a ResNet with FPN."""

    name: ClassVar[str] = "mmdet_mask_rcnn"
    summary: ClassVar[str] = "MMDetection's Mask R-CNN on a ResNet-50 with FPN"
    implementation: ClassVar[str] = "regathlon_vision.detection.mmdet.detector:build_mask_rcnn"
    citation: ClassVar[str] = "he2017mask lin2017feature chen2019mmdetection"


@dataclass(frozen=True)
class MMDetFasterRCNNSettings(MMDetSettings):
    """MMDetection's Faster R-CNN on a ResNet with FPN: boxes, no masks."""

    name: ClassVar[str] = "mmdet_faster_rcnn"
    summary: ClassVar[str] = "MMDetection's Faster R-CNN on a ResNet-50 with FPN"
    implementation: ClassVar[str] = "regathlon_vision.detection.mmdet.detector:build_faster_rcnn"
    citation: ClassVar[str] = "ren2015faster lin2017feature chen2019mmdetection"


@dataclass(frozen=True)
class SmallDetectorSettings(ModelSettings):
    """What the small detectors have in common: a ResNet of the CIFAR kind, strides 1, 2, 4, ..., with FPN.

    Attributes:
        width: Channels of the backbone's first group; later groups have twice as many each.
        channels: Channels of the feature pyramid and of the heads.
        anchors: Side of the square anchors in pixels, one for each level of the pyramid, from fine to coarse: the last
            groups of the backbone.
        groups: Groups of the backbone, at least as many as there are anchors.
        proposals: Regions per image that the second stage looks at.
    """

    width: int = 16
    channels: int = 32
    anchors: tuple[int, ...] = (8, 14)
    groups: int = 3
    proposals: int = 64

    def __post_init__(self) -> None:
        for field in ("width", "channels", "groups", "proposals"):
            if getattr(self, field) < 1:
                raise UserError(f"{field} must be at least 1, not {getattr(self, field)}.")
        if not 1 <= len(self.anchors) <= self.groups:
            raise UserError(
                f"There is one anchor for each level, and at most {self.groups} levels; got {self.anchors}."
            )


@dataclass(frozen=True)
class SmallMaskRCNNSettings(SmallDetectorSettings):
    """Mask R-CNN small enough for a CPU."""

    name: ClassVar[str] = "small_mask_rcnn"
    summary: ClassVar[str] = "Mask R-CNN on a small ResNet with FPN, for a CPU"
    implementation: ClassVar[str] = "regathlon_vision.detection.models:build_small_mask_rcnn"
    citation: ClassVar[str] = "he2017mask lin2017feature"


@dataclass(frozen=True)
class SmallFasterRCNNSettings(SmallDetectorSettings):
    """Faster R-CNN small enough for a CPU."""

    name: ClassVar[str] = "small_faster_rcnn"
    summary: ClassVar[str] = "Faster R-CNN on a small ResNet with FPN, for a CPU"
    implementation: ClassVar[str] = "regathlon_vision.detection.models:build_small_faster_rcnn"
    citation: ClassVar[str] = "ren2015faster lin2017feature"


@dataclass(frozen=True)
class DetectionSettings(TaskSettings):
    """What detection tasks offer: no labels of samples or positions, so nothing that mixes or smooths labels."""

    provides: ClassVar[frozenset[str]] = frozenset(
        {"box_labels", "features", "views", "soft_loss", "occlude", "residual"}
    )
    views: ClassVar[tuple[str, ...]] = ("scale",)
    metric: ClassVar[str] = "box_ap"
    taught_by: ClassVar[Literal["soft", "hard"]] = "hard"


@dataclass(frozen=True)
class DetectionScenesSettings(DetectionSettings):
    """Scenes of handwritten digits on coloured canvases: where is which digit, and which pixels are its own?"""

    name: ClassVar[str] = "detection/scenes"
    summary: ClassVar[str] = "handwritten digits on coloured canvases, 32x32 pixels: boxes and masks"
    implementation: ClassVar[str] = "regathlon_vision.detection.scenes:DetectionScenesTask"
    dataset: ClassVar[str] = "digit-scenes"
    models: ClassVar[tuple[type[ModelSettings], ...]] = (
        SmallMaskRCNNSettings,
        SmallFasterRCNNSettings,
        MMDetMaskRCNNSettings,
        MMDetFasterRCNNSettings,
    )
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adamw",
        lr=3e-3,
        weight_decay=1e-2,
        warmup=0.1,
        clip_norm=10.0,
        batch_size=8,
        budget=Budget(epochs=10),
        eval_every=10,
    )


@dataclass(frozen=True)
class CocoFolderSettings(DetectionSettings):
    """What tasks on files in COCO's format have in common.

    Attributes:
        short: Images are resized so that their shorter side has so many pixels; 0 to leave them as they are.
        long: But the longer side gets no longer than this; 0 for no limit.
        flip: Probability that a training image is mirrored left to right.
        empty: Whether training images without objects are trained on (``"keep"``) or left out (``"drop"``).
        problems: What to do about annotations and images that cannot be used: ``"skip"`` them, with a warning that
            names file and id, or ``"stop"`` with all of them in one message.
    """

    locations: ClassVar[Mapping[Split, tuple[str, str]]] = {}
    short: int = 0
    long: int = 0
    flip: float = 0.5
    empty: Literal["keep", "drop"] = "keep"
    problems: Literal["skip", "stop"] = "skip"

    def __post_init__(self) -> None:
        if self.short < 0 or self.long < 0:
            raise UserError(
                f"short and long are sides in pixels, or 0; got short={self.short}, long={self.long}."
            )
        if not 0 <= self.flip <= 1:
            raise UserError(f"flip is a probability in [0, 1], not {self.flip}.")
        for field, choices in (("empty", ("keep", "drop")), ("problems", ("skip", "stop"))):
            if getattr(self, field) not in choices:
                raise UserError(f"{field} is {choices[0]!r} or {choices[1]!r}, not {getattr(self, field)!r}.")

    @property
    def files(self) -> Mapping[Split, tuple[str, str]]:
        """The annotations and the folder of images of every split, relative to the data root."""
        return self.locations


@dataclass(frozen=True)
class CocoSettings(CocoFolderSettings):
    """COCO 2017: train on train2017, test on val2017, images of at most 1000x600, as in GradAug's Table 7.

    Attributes:
        source: ``"full"``, or ``"subset"``: 60 and 40 of its images, in the same folders, for trying things out.
    """

    name: ClassVar[str] = "detection/coco"
    summary: ClassVar[str] = "COCO 2017, 80 classes of objects: boxes and masks"
    implementation: ClassVar[str] = "regathlon_vision.detection.folder:CocoFolderTask"
    locations: ClassVar[Mapping[Split, tuple[str, str]]] = {
        "train": ("coco/annotations/instances_train2017.json", "coco/train2017"),
        "test": ("coco/annotations/instances_val2017.json", "coco/val2017"),
    }
    models: ClassVar[tuple[type[ModelSettings], ...]] = (
        MaskRCNNSettings,
        FasterRCNNSettings,
        SmallMaskRCNNSettings,
        SmallFasterRCNNSettings,
        MMDetMaskRCNNSettings,
        MMDetFasterRCNNSettings,
    )
    # The schedule called 1x: 12 epochs, a tenth of the rate after 8 and 11, 500 steps of warm-up.
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="sgd",
        lr=0.02,
        momentum=0.9,
        nesterov=False,
        weight_decay=1e-4,
        schedule="step",
        milestones=(8 / 12, 11 / 12),
        warmup=500 / (12 * 7330),
        batch_size=16,
        budget=Budget(epochs=12),
    )
    short: int = 600
    long: int = 1000
    empty: Literal["keep", "drop"] = "drop"
    source: Literal["full", "subset"] = "full"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source not in ("full", "subset"):
            raise unknown(f"source of {self.name}", self.source, ("full", "subset"))

    @property
    def dataset(self) -> str:  # type: ignore[override]
        """Name of the manifest: the subset is a data set of its own."""
        return "coco-subset" if self.source == "subset" else "coco"


@dataclass(frozen=True)
class NucleiSettings(CocoFolderSettings):
    """Nuclei in microscopy images (Data Science Bowl 2018), up to 125 in an image, small enough for a CPU."""

    name: ClassVar[str] = "detection/dsb2018"
    summary: ClassVar[str] = "nuclei in microscopy images (Data Science Bowl 2018): boxes and masks"
    implementation: ClassVar[str] = "regathlon_vision.detection.folder:CocoFolderTask"
    dataset: ClassVar[str] = "dsb2018"
    locations: ClassVar[Mapping[Split, tuple[str, str]]] = {
        "train": ("dsb2018/annotations/instances_train.json", "dsb2018/train"),
        "test": ("dsb2018/annotations/instances_val.json", "dsb2018/val"),
    }
    models: ClassVar[tuple[type[ModelSettings], ...]] = (
        SmallMaskRCNNSettings,
        SmallFasterRCNNSettings,
        MaskRCNNSettings,
        FasterRCNNSettings,
        MMDetMaskRCNNSettings,
        MMDetFasterRCNNSettings,
    )
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adamw",
        lr=2e-3,
        weight_decay=1e-2,
        warmup=0.1,
        clip_norm=10.0,
        batch_size=4,
        budget=Budget(epochs=20),
        eval_every=5,
    )
    short: int = 160


@dataclass(frozen=True)
class FolderSettings(CocoFolderSettings):
    """Any folder in COCO's format under the data root: ``<folder>/annotations/instances_<split>.json``, ``<folder>/<split>/``.

    Attributes:
        folder: Its name, relative to the data root.
        train: Name of the split to train on.
        test: Name of the split to test on.
        revision: Raise it whenever the files change: it is what tells trials on them apart.
    """

    name: ClassVar[str] = "detection/folder"
    summary: ClassVar[str] = "a folder of one's own in COCO's format: boxes and masks"
    implementation: ClassVar[str] = "regathlon_vision.detection.folder:CocoFolderTask"
    dataset: ClassVar[str] = "coco-folder"
    models: ClassVar[tuple[type[ModelSettings], ...]] = CocoSettings.models
    recipe: ClassVar[Recipe] = NucleiSettings.recipe
    folder: str = ""
    train: str = "train"
    test: str = "val"
    revision: int = 1

    @property
    def files(self) -> Mapping[Split, tuple[str, str]]:
        """The annotations and the folder of images of both splits."""
        named: dict[Split, str] = {"train": self.train, "test": self.test}
        return {
            split: (f"{self.folder}/annotations/instances_{name}.json", f"{self.folder}/{name}")
            for split, name in named.items()
        }
