"""Handwritten digits as a graph of nearest neighbours."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor

from regathlon_core.rng import stream
from regathlon_core.task import Split
from regathlon_data import load_digits
from regathlon_graphs.node_classification.settings import DigitGraphSettings
from regathlon_graphs.node_classification.task import NodeClassification
from regathlon_graphs.pyg import Graph

_LABELLED, _VAL, _TEST = 20, 500, 1000


class DigitGraph(NodeClassification):
    """1797 digits, 64 pixels in [0, 1] each, joined to their nearest neighbours.

    The protocol is that of the Planetoid citation graphs (Yang, Cohen and Salakhutdinov, ICML 2016): 20
    labelled nodes of each class, 500 to validate and 1000 to test, drawn once and for all.

    Args:
        settings: How many neighbours.
        data: Not used: the digits ship with regathlon-data.

    Example:
        >>> task = DigitGraph()
        >>> task.size("train"), task.size("val"), task.size("test"), task.in_channels
        (200, 500, 1000, 64)
    """

    def __init__(self, settings: DigitGraphSettings | None = None, data: Path | None = None) -> None:
        settings = settings if settings is not None else DigitGraphSettings()
        graph, splits = _graph(settings.neighbours), _splits()
        super().__init__(settings, tuple(str(digit) for digit in range(10)), graph, splits)


@functools.cache
def _graph(neighbours: int) -> Graph:
    digits = load_digits()
    ink = torch.from_numpy(digits.images.copy()).flatten(1).float()
    return Graph(
        x=ink / 16, edge_index=nearest_neighbours(ink, neighbours), y=torch.from_numpy(digits.labels.copy())
    )


@functools.cache
def _splits() -> dict[Split, Tensor]:
    labels = torch.from_numpy(load_digits().labels.copy())
    order = torch.randperm(len(labels), generator=stream(0, "digit graph"))
    train = torch.cat([order[labels[order] == digit][:_LABELLED] for digit in range(10)])
    rest = order[~torch.isin(order, train)]
    return {"train": train, "val": rest[:_VAL], "test": rest[_VAL : _VAL + _TEST]}


def nearest_neighbours(points: Tensor, k: int) -> Tensor:
    """Join every point to its k nearest, of equally near ones to those with the lower index.

    Args:
        points: Whole numbers as floats, [N, F], whose squared distances stay below 2**24, so that they are
            exact in float32.
        k: Neighbours, below N; a point that is another's neighbour gets it as one too.

    Returns:
        Edges, both ways and without loops, sorted: int64 [2, E].

    Example:
        >>> nearest_neighbours(torch.tensor([[0.0], [1.0], [5.0]]), k=1).tolist()
        [[0, 1, 1, 2], [1, 0, 2, 1]]
    """
    count = len(points)
    squares = points.square().sum(dim=1)
    distances = squares[:, None] + squares - 2 * points @ points.T
    distances.fill_diagonal_(2**24)
    keys = distances.long() * count + torch.arange(count)  # in the order of (distance, index), no two alike
    near = keys.topk(k, largest=False).values % count
    joined = torch.zeros(count, count, dtype=torch.bool).scatter_(1, near, True)
    return (joined | joined.T).nonzero().T.contiguous()
