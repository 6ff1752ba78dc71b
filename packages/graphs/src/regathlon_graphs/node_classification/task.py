"""What every task of classifying nodes has in common."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from regathlon_core.rng import SampleDraw
from regathlon_core.settings import TaskSettings
from regathlon_core.task import Batch, Split, evaluating
from regathlon_graphs.propagation import constant
from regathlon_graphs.pyg import Graph
from regathlon_graphs.task import GraphTask


class NodeClassification(GraphTask):
    """One label for each node of one graph, all of which every batch holds (transductive, full batch).

    A sample is a node: ``size`` counts a split's nodes, and an index is a node's place in its split. A
        batch's targets
    are int64 [N], the labels of the nodes that were asked for and ``ignore_index`` everywhere else, so that
    no loss or metric can see another split's labels. An epoch is one step.

    Args:
        settings: The declaration that built it.
        classes: Names of the classes.
        graph: Features ``x`` [N, F], ``edge_index`` [2, E], both ways, and labels ``y`` int64 [N].
        splits: Nodes of each split, int64; a missing one has none.
    """

    def __init__(
        self, settings: TaskSettings, classes: tuple[str, ...], graph: Graph, splits: Mapping[Split, Tensor]
    ) -> None:
        super().__init__(settings)
        self._classes = classes
        self._graph = constant(Graph(x=graph.x, edge_index=graph.edge_index))
        self._labels: Tensor = graph.y
        self._splits = splits

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self._classes

    @property
    def in_channels(self) -> int:
        """Features of a node."""
        channels: int = self._graph.x.shape[1]
        return channels

    def size(self, split: Split) -> int:
        """Return the number of nodes whose labels belong to a split."""
        return len(self._splits[split]) if split in self._splits else 0

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        """Return the whole graph with the labels of these nodes of a split; there is no augmentation."""
        nodes = self._splits[split][index]
        targets = torch.full_like(self._labels, self.ignore_index)
        targets[nodes] = self._labels[nodes]
        # A graph moves to a device in place, so everyone gets a copy (of the object, not of its tensors).
        return Batch(copy.copy(self._graph), targets, index=index)

    def criterion(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the cross-entropy of the nodes that were asked for."""
        counted = (batch.targets != self.ignore_index).nonzero()[:, 0]
        return super().criterion(outputs[counted], batch.replace(targets=batch.targets[counted]))

    def evaluate_splits(
        self, model: nn.Module, splits: Sequence[Split], *, device: torch.device | str = "cpu"
    ) -> Mapping[Split, Mapping[str, float]]:
        """Return the metrics on several splits by one pass of the model, as all of them see the whole graph."""
        found: dict[Split, Mapping[str, float]] = {}
        with evaluating(model):
            logits = self.predict(model, Batch(copy.copy(self._graph), self._labels).to(device)).cpu()
        for split in splits:
            if self.size(split):
                nodes, metrics = self._splits[split], self.metrics()
                metrics.update(logits[nodes], Batch(None, self._labels[nodes]))
                found[split] = metrics.compute()
        return found

    def order(self, epoch: int, seed: int, batch_size: int) -> list[Tensor]:
        """Return one batch of all training nodes."""
        return [torch.arange(self.size("train"))]

    def evaluation_order(self, split: Split, batch_size: int) -> list[Tensor]:
        """Return one batch of all nodes of the split."""
        return [torch.arange(self.size(split))] if self.size(split) else []
