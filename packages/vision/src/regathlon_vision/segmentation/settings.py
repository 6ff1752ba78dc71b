"""The segmentation tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.recipe import Budget, Recipe
from regathlon_core.settings import ModelSettings, TaskSettings
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
