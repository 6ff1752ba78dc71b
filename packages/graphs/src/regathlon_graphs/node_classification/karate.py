"""Zachary's karate club."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor

from regathlon_core.rng import stream
from regathlon_core.task import Split
from regathlon_graphs.node_classification.settings import KarateSettings
from regathlon_graphs.node_classification.task import NodeClassification
from regathlon_graphs.pyg import Graph, KarateClub


class Karate(NodeClassification):
    """34 members of a club and their friendships; every node's feature is which node it is.

    Zachary, "An Information Flow Model for Conflict and Fission in Small Groups", 1977, with the four
    communities and the one labelled member of each that Kipf and Welling's figure 1 uses. Of the others,
    drawn once and for all and spread over the communities, 10 validate and 20 test; that few make a test of
    the code more than of a method.

    Args:
        settings: Nothing to set.
        data: Not used: the graph ships with torch-geometric.

    Example:
        >>> task = Karate()
        >>> task.size("train"), task.size("val"), task.size("test"), task.in_channels
        (4, 10, 20, 34)
    """

    def __init__(self, settings: KarateSettings | None = None, data: Path | None = None) -> None:
        graph = _graph()
        classes = tuple(f"community {number}" for number in range(1, 1 + int(graph.y.max()) + 1))
        super().__init__(settings if settings is not None else KarateSettings(), classes, graph, _splits())


@functools.cache
def _graph() -> Graph:
    return KarateClub()[0]


@functools.cache
def _splits() -> dict[Split, Tensor]:
    labelled, labels = _graph().train_mask, _graph().y
    others = torch.randperm(len(labels), generator=stream(0, "karate"))
    others = others[~labelled[others]]
    by_community = others[labels[others].argsort(stable=True)]
    place = torch.arange(len(others))
    return {
        "train": labelled.nonzero()[:, 0],
        "val": by_community[place % 3 == 0],
        "test": by_community[place % 3 != 0],
    }
