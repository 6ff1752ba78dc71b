"""What tasks there are and what can be set about them; imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.settings import ModelSettings, TaskSettings
from regathlon_points.models.settings import DGCNNSettings, PointNet2Settings, PointNetSettings

MODELS: tuple[type[ModelSettings], ...] = (PointNetSettings, PointNet2Settings, DGCNNSettings)


@dataclass(frozen=True)
class ShapesSettings(TaskSettings):
    """Ten kinds of solids, each instance of its own proportions, sampled, noisy and turned.

    Attributes:
        points: Points of a cloud, at least 1.
        noise: Standard deviation of the noise on every coordinate, in radii of the shape.
    """

    name: ClassVar[str] = "points/shapes"
    summary: ClassVar[str] = "clouds sampled from ten kinds of meshes of random proportions"
    implementation: ClassVar[str] = "regathlon_points.classification.shapes:Shapes"
    dataset: ClassVar[str] = "shapes"
    provides: ClassVar[frozenset[str]] = frozenset(
        {"class_labels", "sample_labels", "features", "views", "soft_loss", "occlude"}
    )
    views: ClassVar[tuple[str, ...]] = ("scale", "rotation", "subsample")
    models: ClassVar[tuple[type[ModelSettings], ...]] = MODELS
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adam", lr=0.008, weight_decay=1e-4, batch_size=20, budget=Budget(epochs=30), eval_every=5
    )
    metric: ClassVar[str] = "accuracy"
    points: int = 256
    noise: float = 0.02

    def __post_init__(self) -> None:
        if self.points < 1:
            raise UserError(f"points/shapes: a cloud has at least 1 point, not points={self.points}.")
        if not (math.isfinite(self.noise) and self.noise >= 0):
            raise UserError(f"points/shapes: noise is a standard deviation of at least 0, not {self.noise}.")
