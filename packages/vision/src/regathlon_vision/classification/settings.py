"""The classification tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.recipe import Budget, Recipe
from regathlon_core.settings import ModelSettings, TaskSettings
from regathlon_vision.models.settings import ResNet8Settings, ResNet18Settings


@dataclass(frozen=True)
class ClassificationSettings(TaskSettings):
    """What tasks of one class per image offer."""

    provides: ClassVar[frozenset[str]] = frozenset(
        {
            "class_labels",
            "sample_labels",
            "grid_inputs",
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
