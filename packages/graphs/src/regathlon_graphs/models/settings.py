"""What models there are and what can be set about them; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError, unknown
from regathlon_core.settings import ModelSettings

POOLINGS = ("sum", "mean")


def check_pooling(pooling: str) -> str:
    """Return the name of a pooling, or refuse it."""
    if pooling not in POOLINGS:
        raise unknown("pooling", pooling, POOLINGS)
    return pooling


@dataclass(frozen=True)
class NodeGcnSettings(ModelSettings):
    """A GCN that classifies nodes; the defaults are Kipf and Welling's but for their dropout.

    Attributes:
        hidden: Channels of the hidden layers.
        layers: Graph convolutions in all.
        norm: Whether hidden layers are batch-normalised.
        dropout: Rate of the dropout before every layer, as published 0.5; 0 leaves it to the regularizers.
    """

    name: ClassVar[str] = "gcn"
    summary: ClassVar[str] = "graph convolutional network (Kipf and Welling)"
    implementation: ClassVar[str] = "regathlon_graphs.models.networks:build_node_gcn"
    hidden: int = 16
    layers: int = 2
    norm: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check(self.name, self.hidden, self.layers, self.dropout)


@dataclass(frozen=True)
class _GraphNetworkSettings(ModelSettings):
    """Settings of networks that classify graphs.

    Attributes:
        hidden: Channels of the layers.
        layers: Graph convolutions.
        pooling: How nodes become a graph: ``"sum"`` or ``"mean"``.
        norm: Whether layers are batch-normalised.
        dropout: Rate of the dropout before the classifier; 0 leaves it to the regularizers.
    """

    hidden: int = 32
    layers: int = 3
    pooling: str = "sum"
    norm: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check(self.name, self.hidden, self.layers, self.dropout)
        check_pooling(self.pooling)


@dataclass(frozen=True)
class GraphGinSettings(_GraphNetworkSettings):
    """A graph isomorphism network that classifies graphs."""

    name: ClassVar[str] = "gin"
    summary: ClassVar[str] = "graph isomorphism network (Xu et al.)"
    implementation: ClassVar[str] = "regathlon_graphs.models.networks:build_graph_gin"


@dataclass(frozen=True)
class GraphGcnSettings(_GraphNetworkSettings):
    """Graph convolutions, pooled to classify graphs."""

    name: ClassVar[str] = "gcn"
    summary: ClassVar[str] = "graph convolutions (Kipf and Welling), pooled"
    implementation: ClassVar[str] = "regathlon_graphs.models.networks:build_graph_gcn"


def _check(model: str, hidden: int, layers: int, dropout: float) -> None:
    for name, value in (("hidden", hidden), ("layers", layers)):
        if value < 1:
            raise UserError(f"{model}: {name} must be at least 1, not {value}.")
    if not 0 <= dropout < 1:
        raise UserError(f"{model}: dropout is a rate in [0, 1), not {dropout}.")
