"""What all tasks on graphs have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.features import FeaturePoint
from regathlon_core.metrics import ConfusionMetrics, Metrics
from regathlon_core.task import Batch, Task, View
from regathlon_graphs.changes import drop_edges, mask_features, with_parts
from regathlon_graphs.pyg import Graph

_DROPPED_EDGES = 0.2
_MASKED_FEATURES = 0.2


class GraphTask(Task):
    """A task whose inputs are graphs of torch-geometric, undirected: every edge is there both ways.

    ``Batch.inputs`` is a graph, or several in one, with features ``x`` [N, F] and ``edge_index`` [2, E]. A
    view lacks a fifth of the edges (``"edge_drop"``) or of the entries of ``x`` (``"feature_mask"``). The
    features of an occluded node are zero.
    """

    def metrics(self) -> Metrics:
        """Return accuracy over samples and over classes."""
        return ConfusionMetrics(len(self.classes), ignore_index=self.ignore_index)

    def features(self, model: nn.Module) -> Sequence[FeaturePoint]:
        """Return the places that the model names, [N, C]."""
        points: Sequence[FeaturePoint] = self._asked(model, "feature_points")
        return points

    def graph_of_node(self, inputs: Graph) -> Tensor | None:
        """Return the graph of each node, where there are several graphs in one."""
        found: Tensor | None = getattr(inputs, "batch", None)
        return found

    def output_layers(self, model: nn.Module) -> Sequence[str]:
        """Return the names of the layers that make the logits."""
        names: Sequence[str] = self._asked(model, "output_layers")
        return names

    def views(self, batch: Batch, generator: torch.Generator, kinds: Sequence[str] = ()) -> Iterator[View]:
        """Yield the graphs with edges dropped or features masked, as ``kinds`` say; nodes and labels stay."""
        kinds = self.view_kinds(kinds)
        while True:
            graph = batch.inputs
            for kind in kinds:
                graph = _VIEWS[kind](graph, generator=generator)
            yield View(batch.replace(inputs=graph))

    def occlude(self, batch: Batch, where: Tensor) -> Batch:
        """Set all features of nodes to zero; ``where`` is bool over the batch's nodes, [N]."""
        return batch.replace(
            inputs=with_parts(batch.inputs, x=batch.inputs.x.masked_fill(where[:, None], 0.0))
        )

    def attributed(self, inputs: Graph) -> Tensor:
        """Return the features of the nodes."""
        found: Tensor = inputs.x
        return found

    def _asked(self, model: nn.Module, method: str) -> Any:
        if not hasattr(model, method):
            raise UserError(
                f"{type(model).__name__} has no method {method}(), by which {self.settings.name} learns "
                f"where its features and outputs are. Write one like that of regathlon_graphs.NodeNetwork."
            )
        return getattr(model, method)()


_VIEWS: Mapping[str, Callable[..., Graph]] = MappingProxyType(
    {
        "edge_drop": functools.partial(drop_edges, p=_DROPPED_EDGES),
        "feature_mask": functools.partial(mask_features, p=_MASKED_FEATURES),
    }
)
