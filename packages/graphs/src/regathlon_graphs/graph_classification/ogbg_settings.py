"""What tasks of OGB there are on whole graphs; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.recipe import Budget, Recipe
from regathlon_core.settings import ModelSettings, TaskSettings
from regathlon_graphs.graph_classification.settings import GraphTaskSettings
from regathlon_graphs.models.settings import GraphGcnSettings, GraphGinSettings, OgbGcnSettings

OFFICIAL = Recipe(
    optimizer="adam",
    lr=0.001,
    weight_decay=0.0,
    schedule="constant",
    batch_size=32,
    budget=Budget(epochs=100),
)
"""Of OGB's examples of predicting properties of graphs."""


@dataclass(frozen=True)
class OgbgSettings(TaskSettings):
    """A data set in OGB's format whose labels belong to whole graphs; a subclass names the folder.

    Class attributes say what ``master.csv`` of ogb, or ``DatasetSaver``, says of a data set.
    """

    implementation: ClassVar[str] = "regathlon_graphs.graph_classification.ogbg:Ogbg"
    folder: ClassVar[str]
    """Below ``OGB`` in the data root, as ogb has it: ``ogbg_molbace``."""
    split_name: ClassVar[str]
    """Below ``split``."""
    outputs: ClassVar[int]
    """Classes with the metric ``"acc"``, else labels of a graph."""
    both_ways: ClassVar[bool] = False
    """Whether the file has every edge both ways; tables of OGB have not, files of ``DatasetSaver`` have."""
    categories: ClassVar[tuple[tuple[int, ...], tuple[int, ...]]] = ((), ())
    """How many values each whole-numbered feature of nodes, and of edges, may have; empty to take them from the data."""
    provides: ClassVar[frozenset[str]] = frozenset({"features", "views", "soft_loss", "edges"})
    views: ClassVar[tuple[str, ...]] = ("feature_mask", "edge_drop")
    models: ClassVar[tuple[type[ModelSettings], ...]] = (OgbGcnSettings, GraphGinSettings, GraphGcnSettings)
    recipe: ClassVar[Recipe] = OFFICIAL
    metric: ClassVar[str] = "rocauc"


@dataclass(frozen=True)
class MoleculeSettings(OgbgSettings):
    """Molecules: nine whole-numbered features of an atom, three of a bond, the scaffold split."""

    split_name: ClassVar[str] = "scaffold"
    categories: ClassVar[tuple[tuple[int, ...], tuple[int, ...]]] = (
        (119, 5, 12, 12, 10, 6, 6, 2, 2),
        (5, 6, 2),
    )


@dataclass(frozen=True)
class MolBaceSettings(MoleculeSettings):
    """ogbg-molbace: 1513 molecules, inhibitors of BACE-1 or not."""

    name: ClassVar[str] = "graphs/ogbg-molbace"
    summary: ClassVar[str] = "ogbg-molbace, 1513 molecules: inhibits BACE-1 or not"
    dataset: ClassVar[str] = "ogbg-molbace"
    folder: ClassVar[str] = "ogbg_molbace"
    outputs: ClassVar[int] = 1


@dataclass(frozen=True)
class MolHivSettings(MoleculeSettings):
    """ogbg-molhiv: 41127 molecules, inhibit HIV replication or not."""

    name: ClassVar[str] = "graphs/ogbg-molhiv"
    summary: ClassVar[str] = "ogbg-molhiv, 41127 molecules: inhibits HIV or not"
    dataset: ClassVar[str] = "ogbg-molhiv"
    folder: ClassVar[str] = "ogbg_molhiv"
    outputs: ClassVar[int] = 1


@dataclass(frozen=True)
class MolPcbaSettings(MoleculeSettings):
    """ogbg-molpcba: 437929 molecules and 128 assays."""

    name: ClassVar[str] = "graphs/ogbg-molpcba"
    summary: ClassVar[str] = "ogbg-molpcba, 437929 molecules, 128 assays"
    dataset: ClassVar[str] = "ogbg-molpcba"
    folder: ClassVar[str] = "ogbg_molpcba"
    outputs: ClassVar[int] = 128
    metric: ClassVar[str] = "ap"


@dataclass(frozen=True)
class PpaSettings(OgbgSettings):
    """ogbg-ppa: 158100 neighbourhoods of proteins, of 37 taxonomic groups."""

    name: ClassVar[str] = "graphs/ogbg-ppa"
    summary: ClassVar[str] = "ogbg-ppa, 158100 protein neighbourhoods of 37 taxa"
    dataset: ClassVar[str] = "ogbg-ppa"
    folder: ClassVar[str] = "ogbg_ppa"
    split_name: ClassVar[str] = "species"
    outputs: ClassVar[int] = 37
    provides: ClassVar[frozenset[str]] = GraphTaskSettings.provides
    metric: ClassVar[str] = "acc"
