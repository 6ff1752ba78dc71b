"""What models there are and what can be set about them; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from regathlon_core.errors import UserError, unknown
from regathlon_core.settings import ModelSettings

POOLINGS = ("sum", "mean")


def check_pooling(pooling: str) -> str:
    """Return the name of a pooling, or refuse it."""
    if pooling not in POOLINGS:
        raise unknown("pooling", pooling, POOLINGS)
    return pooling


@dataclass(frozen=True)
class NodeNetworkSettings(ModelSettings):
    """Settings of networks that classify nodes.

    Attributes:
        hidden: Channels of the hidden layers.
        layers: Graph convolutions in all.
        norm: Whether hidden layers are batch-normalised.
        dropout: Rate of the dropout before every layer, as published 0.5; 0 leaves it to the regularizers.
        pair_norm: Scale of PairNorm after every hidden layer (Zhao and Akoglu, ICLR 2020: 1); 0 for none. It acts in
            evaluation too, so it is the model's and no regularizer.
    """

    implementation: ClassVar[str] = "regathlon_graphs.models.networks:build_node_network"
    hidden: int = 16
    layers: int = 2
    norm: bool = False
    dropout: float = 0.0
    pair_norm: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(self.name, self.hidden, self.layers, self.dropout)
        if not 0 <= self.pair_norm < float("inf"):
            raise UserError(f"{self.name}: pair_norm is a scale of at least 0, not {self.pair_norm}.")


@dataclass(frozen=True)
class NodeGcnSettings(NodeNetworkSettings):
    """A GCN that classifies nodes; the defaults are Kipf and Welling's but for their dropout.

    Attributes:
        normalization: ``"symmetric"`` divides by the roots of both degrees; ``"row"`` by the degree of the node that
            sums, as the authors' PyTorch code, pygcn, does.
        init: ``"glorot"``; or ``"uniform"``, as pygcn has it.
    """

    name: ClassVar[str] = "gcn"
    summary: ClassVar[str] = "graph convolutional network (Kipf and Welling)"
    citation: ClassVar[str] = "kipf2017semi"
    normalization: Literal["symmetric", "row"] = "symmetric"
    init: Literal["glorot", "uniform"] = "glorot"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_convolution(self.normalization, self.init)


@dataclass(frozen=True)
class NodeGatSettings(NodeNetworkSettings):
    """A graph attention network that classifies nodes; the defaults are its authors' but for their dropout.

    Attributes:
        heads: Attention heads of a hidden layer, which share its channels; the last layer has one.
    """

    name: ClassVar[str] = "gat"
    summary: ClassVar[str] = "graph attention network (Veličković et al.)"
    citation: ClassVar[str] = "velickovic2018graph"
    hidden: int = 64
    heads: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads < 1 or self.hidden % self.heads:
            raise UserError(f"gat: hidden={self.hidden} is no multiple of heads={self.heads}.")


@dataclass(frozen=True)
class NodeSageSettings(NodeNetworkSettings):
    """GraphSAGE with the mean of the neighbours."""

    name: ClassVar[str] = "sage"
    summary: ClassVar[str] = "GraphSAGE, mean aggregator (Hamilton et al.)"
    citation: ClassVar[str] = "hamilton2017inductive"
    hidden: int = 64


@dataclass(frozen=True)
class GraphNetworkSettings(ModelSettings):
    """Settings of networks that classify graphs.

    Attributes:
        hidden: Channels of the layers.
        layers: Graph convolutions.
        pooling: How nodes become a graph: ``"sum"`` or ``"mean"``.
        norm: Whether layers are batch-normalised.
        dropout: Rate of the dropout before the classifier; 0 leaves it to the regularizers.
    """

    implementation: ClassVar[str] = "regathlon_graphs.models.networks:build_graph_network"
    hidden: int = 32
    layers: int = 3
    pooling: str = "sum"
    norm: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(self.name, self.hidden, self.layers, self.dropout)
        check_pooling(self.pooling)


@dataclass(frozen=True)
class GraphGinSettings(GraphNetworkSettings):
    """A graph isomorphism network that classifies graphs."""

    name: ClassVar[str] = "gin"
    summary: ClassVar[str] = "graph isomorphism network (Xu et al.)"
    citation: ClassVar[str] = "xu2019how"


@dataclass(frozen=True)
class GraphGcnSettings(GraphNetworkSettings):
    """Graph convolutions, pooled to classify graphs.

    Attributes:
        normalization: ``"symmetric"`` divides by the roots of both degrees; ``"row"`` by the degree of the node that
            sums, as pygcn does.
        init: ``"glorot"``; or ``"uniform"``, as pygcn has it.
    """

    name: ClassVar[str] = "gcn"
    summary: ClassVar[str] = "graph convolutions (Kipf and Welling), pooled"
    citation: ClassVar[str] = "kipf2017semi"
    normalization: Literal["symmetric", "row"] = "symmetric"
    init: Literal["glorot", "uniform"] = "glorot"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_convolution(self.normalization, self.init)


@dataclass(frozen=True)
class OgbGcnSettings(ModelSettings):
    """OGB's GCN for properties of graphs, whose messages read the features of edges too.

    Attributes:
        hidden: Channels of the layers.
        layers: Graph convolutions.
        dropout: Rate of the dropout after every layer, officially 0.5; 0 leaves it to the regularizers.
        virtual_node: Whether a node more, joined to all others of its graph, takes part.
        residual: Whether every layer adds to what it reads.
    """

    name: ClassVar[str] = "ogb_gcn"
    summary: ClassVar[str] = "OGB's GCN with edge features, perhaps with a virtual node (Hu et al.)"
    implementation: ClassVar[str] = "regathlon_graphs.models.ogb_gcn:build_ogb_gcn"
    hidden: int = 300
    layers: int = 5
    dropout: float = 0.0
    virtual_node: bool = False
    residual: bool = False

    def __post_init__(self) -> None:
        check_sizes(self.name, self.hidden, self.layers, self.dropout)


def check_sizes(model: str, hidden: int, layers: int, dropout: float) -> None:
    """Refuse sizes and rates that no model has."""
    for name, value in (("hidden", hidden), ("layers", layers)):
        if value < 1:
            raise UserError(f"{model}: {name} must be at least 1, not {value}.")
    if not 0 <= dropout < 1:
        raise UserError(f"{model}: dropout is a rate in [0, 1), not {dropout}.")


def check_convolution(normalization: str, init: str) -> None:
    """Refuse what a GCN cannot be told."""
    for what, value, choices in (
        ("normalization", normalization, ("symmetric", "row")),
        ("init", init, ("glorot", "uniform")),
    ):
        if value not in choices:
            raise unknown(what, value, choices)
