"""What tasks of OGB there are on nodes; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from regathlon_core.errors import UserError, unknown
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.settings import ModelSettings
from regathlon_graphs.models.settings import NodeGatSettings, NodeGcnSettings, NodeSageSettings
from regathlon_graphs.node_classification.settings import NodeTaskSettings


@dataclass(frozen=True)
class OgbnSettings(NodeTaskSettings):
    """One graph in OGB's format that fits a step; a subclass names the folder."""

    implementation: ClassVar[str] = "regathlon_graphs.node_classification.ogbn:Ogbn"
    folder: ClassVar[str]
    """Below ``OGB`` in the data root, as ogb has it: ``ogbn_arxiv``."""
    split_name: ClassVar[str]
    """Below ``split``."""
    outputs: ClassVar[int]
    """Number of classes."""
    metric: ClassVar[str] = "acc"


@dataclass(frozen=True)
class ArxivSettings(OgbnSettings):
    """ogbn-arxiv: 169343 papers of 40 subjects; OGB's recipe of its GCN."""

    name: ClassVar[str] = "graphs/ogbn-arxiv"
    summary: ClassVar[str] = "ogbn-arxiv, 169343 papers of 40 subjects"
    dataset: ClassVar[str] = "ogbn-arxiv"
    folder: ClassVar[str] = "ogbn_arxiv"
    split_name: ClassVar[str] = "time"
    outputs: ClassVar[int] = 40
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adam",
        lr=0.01,
        weight_decay=0.0,
        schedule="constant",
        batch_size=1,
        budget=Budget(epochs=500),
        eval_every=10,
    )


@dataclass(frozen=True)
class ClusteredSettings(OgbnSettings):
    """One graph in OGB's format that is read in parts.

    Attributes:
        loading: ``"clusters"``: a sample is a cluster, with the edges inside and between the clusters of a step (Chiang et
            al., "Cluster-GCN", KDD 2019); or ``"neighbours"``: a sample is a node, with drawn neighbours (Hamilton et al.,
            NeurIPS 2017).
        clusters: How many.
        fanouts: Neighbours at each distance.
    """

    implementation: ClassVar[str] = "regathlon_graphs.node_classification.ogbn:Clustered"
    models: ClassVar[tuple[type[ModelSettings], ...]] = (NodeSageSettings, NodeGcnSettings, NodeGatSettings)
    loading: Literal["clusters", "neighbours"] = "clusters"
    clusters: int = 15000
    fanouts: tuple[int, ...] = (15, 10, 5)

    def __post_init__(self) -> None:
        if self.loading not in ("clusters", "neighbours"):
            raise unknown("loading", self.loading, ("clusters", "neighbours"))
        if self.clusters < 1:
            raise UserError(f"{self.name}: clusters must be at least 1, not {self.clusters}.")
        if not self.fanouts or min(self.fanouts) < 1:
            raise UserError(f"{self.name}: fanouts are numbers of at least 1, not {list(self.fanouts)}.")


@dataclass(frozen=True)
class ProductsSettings(ClusteredSettings):
    """ogbn-products: 2449029 products of 47 categories; OGB's recipe of Cluster-GCN."""

    name: ClassVar[str] = "graphs/ogbn-products"
    summary: ClassVar[str] = "ogbn-products, 2449029 products of 47 categories, in clusters"
    dataset: ClassVar[str] = "ogbn-products"
    folder: ClassVar[str] = "ogbn_products"
    split_name: ClassVar[str] = "sales_ranking"
    outputs: ClassVar[int] = 47
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adam",
        lr=0.001,
        weight_decay=0.0,
        schedule="constant",
        batch_size=32,
        budget=Budget(epochs=50),
        eval_every=5,
    )
