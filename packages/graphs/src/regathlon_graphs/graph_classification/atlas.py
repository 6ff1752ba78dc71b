"""Small graphs from networkx's atlas."""

from __future__ import annotations

import functools
from pathlib import Path

import networkx as nx
import torch
import torch.nn.functional as F
from networkx.generators.atlas import graph_atlas_g
from torch import Tensor

from regathlon_core.rng import stream
from regathlon_core.task import Split
from regathlon_graphs.graph_classification.settings import AtlasSettings
from regathlon_graphs.graph_classification.task import GraphClassification
from regathlon_graphs.pyg import Graph

_NODES = range(5, 8)
_CLIQUES = (2, 3, 4)  # the last stands for all larger ones too


class Atlas(GraphClassification):
    """The 986 connected graphs of five to seven nodes: is the largest clique of 2, of 3, or of more nodes?

    The atlas (Read and Wilson, "An Atlas of Graphs", 1998) lists every graph of up to seven nodes once, so no
    two are isomorphic and none of one split is another of a different split in disguise. A node's features
    tell its degree (one-hot); degrees alone do not tell the clique, and neither does message passing for all
    of these graphs. Half are there to train, a tenth to validate, the rest to test, with the classes' shares
    alike.

    Args:
        settings: Nothing to set.
        data: Not used: the atlas ships with networkx.

    Example:
        >>> task = Atlas()
        >>> task.size("train"), task.size("val"), task.size("test"), task.classes
        (493, 99, 394, ('2', '3', '4 or more'))
    """

    def __init__(self, settings: AtlasSettings | None = None, data: Path | None = None) -> None:
        graphs, labels = _graphs()
        classes = (*map(str, _CLIQUES[:-1]), f"{_CLIQUES[-1]} or more")
        super().__init__(
            settings if settings is not None else AtlasSettings(), classes, graphs, labels, _splits()
        )


@functools.cache
def _graphs() -> tuple[tuple[Graph, ...], Tensor]:
    chosen = [graph for graph in graph_atlas_g() if len(graph) in _NODES and nx.is_connected(graph)]
    cliques = [max(map(len, nx.find_cliques(graph))) for graph in chosen]
    labels = torch.tensor([min(clique, _CLIQUES[-1]) - _CLIQUES[0] for clique in cliques])
    return tuple(_converted(graph) for graph in chosen), labels


def _converted(graph: nx.Graph[int]) -> Graph:
    edges = torch.tensor(list(graph.edges)).T
    degrees = torch.tensor([graph.degree[node] for node in range(len(graph))])
    features = F.one_hot(degrees - 1, max(_NODES) - 1).float()
    return Graph(x=features, edge_index=torch.cat([edges, edges.flip(0)], dim=1))


@functools.cache
def _splits() -> dict[Split, Tensor]:
    labels = _graphs()[1]
    order = torch.randperm(len(labels), generator=stream(0, "atlas"))
    by_class = order[labels[order].argsort(stable=True)]
    place = torch.arange(len(order)) % 10
    return {
        "train": by_class[place % 2 == 0],
        "val": by_class[place == 1],
        "test": by_class[(place % 2 == 1) & (place > 1)],
    }
