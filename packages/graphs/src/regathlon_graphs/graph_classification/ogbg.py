"""Predicting properties of whole graphs, on data in OGB's format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from regathlon_core.errors import UserError, for_the_user
from regathlon_core.rng import SampleDraw
from regathlon_core.task import Batch, Split, class_loss
from regathlon_data import DataError, located
from regathlon_graphs.graph_classification.collected import Collected
from regathlon_graphs.graph_classification.ogbg_settings import OgbgSettings
from regathlon_graphs.ogb_files.reading import OgbGraphs, read_graphs, read_labels, read_split
from regathlon_graphs.ogb_files.scoring import OgbMetrics
from regathlon_graphs.task import GraphTask


class Ogbg(GraphTask):
    """Graphs of a data set in OGB's format, scored by OGB's evaluator.

    The files lie where ogb has them, ``OGB/ogbg_molbace/raw/edge.csv.gz`` and so on, or are written by
    ``ogb.io.DatasetSaver``; nothing is downloaded and nobody is asked. Whole-numbered features become one-hot, all columns
    side by side, so that a linear layer of them is OGB's sum of embeddings, and an absent feature is zero. Nodes without
    features have a single one.

    With the metric ``"acc"`` targets are classes; with ``"rmse"`` numbers; else yes or no, float32 [B, tasks], NaN where a
    label is not known.

    Args:
        settings: Which data set.
        data: The data root; see ``regathlon_data.data_root``.

    Raises:
        UserError: Files are missing or damaged.
    """

    def __init__(self, settings: OgbgSettings, data: Path | None = None) -> None:
        super().__init__(settings)
        folder = ogb_root(settings.dataset, data) / settings.folder
        found = read_graphs(folder)
        labels = torch.from_numpy(read_labels(folder))
        if len(labels) != len(found.nodes):
            raise UserError(
                f"There are {len(found.nodes)} graphs and {len(labels)} labels.", where=str(folder)
            )
        self.scoring = settings.metric
        self._labels = labels[:, 0].long() if self.scoring == "acc" else labels.float()
        width = settings.outputs if self.scoring != "acc" else 1
        if labels.shape[1] != width:
            raise UserError(f"A graph has {labels.shape[1]} labels, not {width}.", where=str(folder))
        if (
            self.scoring == "acc"
            and not 0 <= int(self._labels.min()) <= int(self._labels.max()) < settings.outputs
        ):
            raise UserError(f"A label is no class of 0 to {settings.outputs - 1}.", where=str(folder))
        self._splits = read_split(folder, settings.split_name, len(labels))
        self._collection = _collected(found, both_ways=settings.both_ways)
        self._widths = (
            _widths(self._collection.x, settings.categories[0], str(folder)),
            _widths(self._collection.edge_attr, settings.categories[1], str(folder)),
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the outputs: classes, or what there is to predict of a graph."""
        what = "class" if self.scoring == "acc" else "task"
        return tuple(f"{what} {number}" for number in range(self.settings.outputs))  # type: ignore[attr-defined]

    @property
    def in_channels(self) -> int:
        """Features of a node."""
        return sum(self._widths[0])

    @property
    def edge_channels(self) -> int:
        """Features of an edge; 0 where there are none."""
        return sum(self._widths[1])

    @property
    def blocks_of_features(self) -> tuple[Sequence[int], Sequence[int]]:
        """How the features of nodes, and of edges, fall into one-hot columns."""
        return self._widths

    def size(self, split: Split) -> int:
        """Return the number of graphs in a split."""
        return len(self._splits[split]) if split in self._splits else 0

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        """Return graphs in one, and their labels; there is no augmentation."""
        chosen = self._splits[split][index]
        graph = self._collection.together(chosen)
        graph.x = _one_hot(graph.x, self._widths[0])
        if graph.edge_attr is not None:
            graph.edge_attr = _one_hot(graph.edge_attr, self._widths[1])
        return Batch(graph, self._labels[chosen], index=index)

    def criterion(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the cross-entropy of classes or of known labels, or the mean squared error."""
        if self.scoring == "acc":
            return class_loss(outputs, batch, ignore_index=self.ignore_index)
        known = ~batch.targets.isnan()
        loss = F.mse_loss if self.scoring == "rmse" else F.binary_cross_entropy_with_logits
        return loss(outputs.float()[known], batch.targets[known])

    def soft_loss(self, outputs: Tensor, reference: Tensor) -> Tensor:
        """Return the Kullback-Leibler divergence of the predictions, of each task by itself, or their squared error."""
        if self.scoring == "acc":
            return super().soft_loss(outputs, reference)
        if self.scoring == "rmse":
            return F.mse_loss(outputs.float(), reference.detach().float())
        outputs, reference = outputs.float(), reference.detach().float()
        entropy = F.binary_cross_entropy_with_logits(reference, reference.sigmoid())
        return F.binary_cross_entropy_with_logits(outputs, reference.sigmoid()) - entropy

    def metrics(self) -> OgbMetrics:
        """Return OGB's score."""
        return OgbMetrics(
            "graph", self.scoring, 1 if self.scoring == "acc" else len(self.classes), self.ignore_index
        )


def ogb_root(dataset: str, data: Path | None) -> Path:
    """Return the folder ``OGB`` of the data root.

    Raises:
        UserError: The data set has a manifest, and its files are missing.
    """
    with for_the_user(DataError):
        return located(dataset, data) / "OGB"


def _collected(found: OgbGraphs, *, both_ways: bool) -> Collected:
    """Return the graphs with features as stored, undirected: each pair both ways, one after the other, as ogb has it."""
    nodes, edges = torch.from_numpy(np.array(found.nodes)), torch.from_numpy(np.array(found.edges))
    edge_index = torch.from_numpy(np.array(found.edge_index, dtype=np.int64))
    x = (
        torch.ones(int(nodes.sum()), 1)
        if found.node_feat is None
        else torch.from_numpy(np.array(found.node_feat))
    )
    edge_attr = None if found.edge_feat is None else torch.from_numpy(np.array(found.edge_feat))
    if not both_ways:
        edge_index = torch.stack([edge_index, edge_index.flip(0)], dim=2).flatten(1)
        edge_attr = None if edge_attr is None else edge_attr.repeat_interleave(2, dim=0)
        edges = 2 * edges
    return Collected.joined(
        _narrow(x), edge_index, None if edge_attr is None else _narrow(edge_attr), nodes, edges
    )


def _narrow(values: Tensor) -> Tensor:
    small = (
        not values.is_floating_point()
        and values.numel()
        and 0 <= int(values.min()) <= int(values.max()) < 256
    )
    return values.to(torch.uint8) if small else values


def _widths(values: Tensor | None, known: Sequence[int], where: str) -> tuple[int, ...]:
    """Return how many columns each feature takes."""
    if values is None:
        return ()
    if values.is_floating_point():
        return (1,) * values.shape[1]
    largest = values.amax(dim=0).tolist() if len(values) else [0] * values.shape[1]
    if len(values) and int(values.min()) < 0:
        raise UserError("A whole-numbered feature is negative.", where=where)
    if not known:
        return tuple(int(value) + 1 for value in largest)
    if len(known) != values.shape[1] or any(
        value >= count for value, count in zip(largest, known, strict=True)
    ):
        raise UserError(
            f"The features have other values than {list(known)} of each, as is known.", where=where
        )
    return tuple(known)


def _one_hot(values: Tensor, widths: Sequence[int]) -> Tensor:
    if values.is_floating_point():
        return values
    begins = torch.tensor([sum(widths[:column]) for column in range(len(widths))])
    return torch.zeros(len(values), sum(widths)).scatter_(1, values.long() + begins, 1.0)
