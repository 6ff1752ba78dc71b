"""What tasks there are and what can be set about them; imports no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from regathlon_core.errors import UserError, unknown
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.settings import ModelSettings, TaskSettings
from regathlon_graphs.models.settings import GraphGcnSettings, GraphGinSettings


@dataclass(frozen=True)
class GraphTaskSettings(TaskSettings):
    """What all tasks of classifying graphs declare alike."""

    provides: ClassVar[frozenset[str]] = frozenset(
        {"class_labels", "sample_labels", "features", "views", "soft_loss", "occlude", "edges"}
    )
    views: ClassVar[tuple[str, ...]] = ("feature_mask", "edge_drop")
    models: ClassVar[tuple[type[ModelSettings], ...]] = (GraphGinSettings, GraphGcnSettings)
    metric: ClassVar[str] = "accuracy"


@dataclass(frozen=True)
class AtlasSettings(GraphTaskSettings):
    """All connected graphs of five to seven nodes, by the size of their largest clique."""

    name: ClassVar[str] = "graphs/atlas"
    summary: ClassVar[str] = "clique numbers of all connected graphs of 5 to 7 nodes"
    implementation: ClassVar[str] = "regathlon_graphs.graph_classification.atlas:Atlas"
    dataset: ClassVar[str] = "atlas"
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adam", lr=0.01, weight_decay=5e-4, batch_size=32, budget=Budget(epochs=20), eval_every=5
    )


@dataclass(frozen=True)
class TuSettings(GraphTaskSettings):
    """A collection of the TUDataset; a subclass names the folder.

    Attributes:
        split: Which of the splits, at least 0; null for the one of the trial's seed (0 where there is no trial).
        protocol: ``"random"``: 80 % train, 10 % validate and 10 % test, drawn as HGP-SL draws them from its seed; or
            ``"folds"``: a tenth tests, the next one validates, the others train; the folds are those of the files
            ``10fold_idx`` where the collection has them, else drawn with the classes' shares alike.
    """

    version: ClassVar[int] = 2
    implementation: ClassVar[str] = "regathlon_graphs.graph_classification.tu:Tu"
    folder: ClassVar[str]
    """Below ``TUDataset`` in the data root, and the beginning of the files' names."""
    models: ClassVar[tuple[type[ModelSettings], ...]] = (GraphGcnSettings, GraphGinSettings)
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adam",
        lr=0.01,
        weight_decay=5e-4,
        schedule="constant",
        batch_size=512,
        budget=Budget(epochs=200),
        eval_every=20,
    )
    split: int | None = None
    protocol: Literal["random", "folds"] = "random"

    def __post_init__(self) -> None:
        if self.protocol not in ("random", "folds"):
            raise unknown("protocol", self.protocol, ("random", "folds"))
        if self.split is not None and self.split < 0:
            raise UserError(f"{self.name}: split must be at least 0, not {self.split}.")

    def of_seed(self, seed: int) -> TuSettings:
        """Return the task with the split of a seed; the ten folds begin again after ten seeds."""
        return self if self.split is not None else dataclasses.replace(self, split=seed)


@dataclass(frozen=True)
class ProteinsSettings(TuSettings):
    """PROTEINS: 1113 graphs of secondary structure, enzymes or not."""

    name: ClassVar[str] = "graphs/proteins"
    summary: ClassVar[str] = "PROTEINS, 1113 graphs: enzyme or not"
    dataset: ClassVar[str] = "proteins"
    folder: ClassVar[str] = "PROTEINS"


@dataclass(frozen=True)
class MutagSettings(TuSettings):
    """MUTAG: 188 molecules, mutagenic or not."""

    name: ClassVar[str] = "graphs/mutag"
    summary: ClassVar[str] = "MUTAG, 188 molecules: mutagenic or not"
    dataset: ClassVar[str] = "mutag"
    folder: ClassVar[str] = "MUTAG"
