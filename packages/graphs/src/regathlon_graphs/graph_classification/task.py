"""What every task of classifying graphs has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from regathlon_core.rng import SampleDraw
from regathlon_core.settings import TaskSettings
from regathlon_core.task import Batch, Split
from regathlon_graphs.graph_classification.collected import Collected
from regathlon_graphs.pyg import Graph
from regathlon_graphs.task import GraphTask


class GraphClassification(GraphTask):
    """One label for each graph; a batch is several graphs in one, and its ``batch`` [N] is each node's graph.

    Args:
        settings: The declaration that built it.
        classes: Names of the classes.
        graphs: Features ``x`` [N, F] and ``edge_index`` [2, E], both ways, of each graph.
        labels: int64, one for each graph.
        splits: Which graphs each split has, int64; a missing one has none.
    """

    def __init__(
        self,
        settings: TaskSettings,
        classes: tuple[str, ...],
        graphs: Sequence[Graph],
        labels: Tensor,
        splits: Mapping[Split, Tensor],
    ) -> None:
        super().__init__(settings)
        self._classes = classes
        self._collection = Collected(graphs)
        self._labels = labels
        self._splits = splits

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self._classes

    @property
    def in_channels(self) -> int:
        """Features of a node."""
        channels: int = self._collection.x.shape[1]
        return channels

    def size(self, split: Split) -> int:
        """Return the number of graphs in a split."""
        return len(self._splits[split]) if split in self._splits else 0

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        """Return graphs in one, and their labels [B]; there is no augmentation."""
        chosen = self._splits[split][index]
        return Batch(self._collection.together(chosen), self._labels[chosen], index=index)
