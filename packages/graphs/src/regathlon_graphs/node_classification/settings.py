"""What tasks there are and what can be set about them; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from regathlon_core.errors import UserError, unknown
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.settings import ModelSettings, TaskSettings
from regathlon_graphs.models.settings import NodeGatSettings, NodeGcnSettings, NodeSageSettings

CitationSplit = Literal["planetoid", "pygcn", "random"]

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
        {"class_labels", "features", "views", "soft_loss", "occlude", "edges"}
    )
    views: ClassVar[tuple[str, ...]] = ("edge_drop", "feature_mask")
    models: ClassVar[tuple[type[ModelSettings], ...]] = (NodeGcnSettings, NodeGatSettings, NodeSageSettings)
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


@dataclass(frozen=True)
class CitationSettings(NodeTaskSettings):
    """A citation graph in Planetoid's format; a subclass names the folder.

    Attributes:
        split: ``"planetoid"``, the public one; ``"pygcn"``, that of the GCN authors' PyTorch code (Cora only); or
            ``"random"``: 140 nodes to train, 300 to validate and 1000 to test, as many as pygcn's.
        split_seed: Which of the random splits.
    """

    version: ClassVar[int] = 2
    implementation: ClassVar[str] = "regathlon_graphs.node_classification.citation:Citation"
    folder: ClassVar[str]
    """Below ``Planetoid`` in the data root; in lower case also part of the files' names."""
    split: CitationSplit = "planetoid"
    split_seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in get_args(CitationSplit):
            raise unknown(f"split of {self.name}", self.split, get_args(CitationSplit))
        if self.split == "pygcn" and self.name != "graphs/cora":
            raise UserError(
                f"{self.name}: split=pygcn is a split of graphs/cora only. Use planetoid or random."
            )
        if self.split_seed and self.split != "random":
            raise UserError(
                f"{self.name}: split_seed says something with split=random only, not {self.split}."
            )


@dataclass(frozen=True)
class CoraSettings(CitationSettings):
    """Cora: 2708 papers on machine learning, of seven topics."""

    name: ClassVar[str] = "graphs/cora"
    summary: ClassVar[str] = "Cora citation network, 20 labels a class"
    dataset: ClassVar[str] = "cora"
    folder: ClassVar[str] = "Cora"


@dataclass(frozen=True)
class CiteSeerSettings(CitationSettings):
    """CiteSeer: 3327 papers of six topics."""

    name: ClassVar[str] = "graphs/citeseer"
    summary: ClassVar[str] = "CiteSeer citation network, 20 labels a class"
    dataset: ClassVar[str] = "citeseer"
    folder: ClassVar[str] = "CiteSeer"


@dataclass(frozen=True)
class PubMedSettings(CitationSettings):
    """PubMed: 19717 papers on three kinds of diabetes."""

    name: ClassVar[str] = "graphs/pubmed"
    summary: ClassVar[str] = "PubMed citation network, 20 labels a class"
    dataset: ClassVar[str] = "pubmed"
    folder: ClassVar[str] = "PubMed"
