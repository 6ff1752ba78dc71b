"""What tasks there are and what can be set about them; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.recipe import Budget, Recipe
from regathlon_core.settings import ModelSettings, TaskSettings
from regathlon_graphs.models.settings import GraphGcnSettings, GraphGinSettings


@dataclass(frozen=True)
class AtlasSettings(TaskSettings):
    """All connected graphs of five to seven nodes, by the size of their largest clique."""

    name: ClassVar[str] = "graphs/atlas"
    summary: ClassVar[str] = "clique numbers of all connected graphs of 5 to 7 nodes"
    implementation: ClassVar[str] = "regathlon_graphs.graph_classification.atlas:Atlas"
    dataset: ClassVar[str] = "atlas"
    provides: ClassVar[frozenset[str]] = frozenset(
        {"class_labels", "sample_labels", "features", "views", "soft_loss", "occlude"}
    )
    views: ClassVar[tuple[str, ...]] = ("feature_mask", "edge_drop")
    models: ClassVar[tuple[type[ModelSettings], ...]] = (GraphGinSettings, GraphGcnSettings)
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adam", lr=0.01, weight_decay=5e-4, batch_size=32, budget=Budget(epochs=20), eval_every=5
    )
    metric: ClassVar[str] = "accuracy"
