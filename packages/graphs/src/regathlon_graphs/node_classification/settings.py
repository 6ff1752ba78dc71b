"""What tasks there are and what can be set about them; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.settings import ModelSettings, TaskSettings
from regathlon_graphs.models.settings import NodeGcnSettings

KIPF = Recipe(
    optimizer="adam",
    lr=0.01,
    weight_decay=5e-4,
    schedule="constant",
    batch_size=1,
    budget=Budget(epochs=200),
    eval_every=20,
)
"""Kipf and Welling's recipe; every batch is the whole graph, so ``batch_size`` says nothing."""


@dataclass(frozen=True)
class NodeTaskSettings(TaskSettings):
    """What all tasks of classifying nodes declare alike."""

    provides: ClassVar[frozenset[str]] = frozenset(
        {"class_labels", "features", "views", "soft_loss", "occlude"}
    )
    views: ClassVar[tuple[str, ...]] = ("edge_drop", "feature_mask")
    models: ClassVar[tuple[type[ModelSettings], ...]] = (NodeGcnSettings,)
    recipe: ClassVar[Recipe] = KIPF
    metric: ClassVar[str] = "accuracy"


@dataclass(frozen=True)
class DigitGraphSettings(NodeTaskSettings):
    """Handwritten digits, each joined to those most like it; 20 of each class are labelled.

    Attributes:
        neighbours: Nearest digits that each one is joined to, at least 1.
    """

    name: ClassVar[str] = "graphs/digits"
    summary: ClassVar[str] = "digits as a nearest-neighbour graph, 20 labels a class"
    implementation: ClassVar[str] = "regathlon_graphs.node_classification.digits:DigitGraph"
    dataset: ClassVar[str] = "digit-graph"
    neighbours: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.neighbours <= 1796:
            raise UserError(f"graphs/digits: neighbours must lie in 1 to 1796, not {self.neighbours}.")


@dataclass(frozen=True)
class KarateSettings(NodeTaskSettings):
    """Zachary's karate club: four communities, one labelled member of each."""

    name: ClassVar[str] = "graphs/karate"
    summary: ClassVar[str] = "Zachary's karate club, one label a community"
    implementation: ClassVar[str] = "regathlon_graphs.node_classification.karate:Karate"
    dataset: ClassVar[str] = "karate"
