"""The GCN of OGB's examples of predicting properties of graphs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core.features import FeaturePoint
from regathlon_core.task import Task
from regathlon_graphs.models.settings import OgbGcnSettings
from regathlon_graphs.propagation import drop_messages
from regathlon_graphs.pyg import Graph, global_add_pool, global_mean_pool


class OgbGcn(nn.Module):
    """Graph convolutions whose messages read the features of edges; their mean over a graph is classified.

    Source: Hu et al., "Open Graph Benchmark", NeurIPS 2020; the authors' code https://github.com/snap-stanford/ogb,
        ``examples/graphproppred`` of ``mol`` and ``ppa``: ``gnn.py`` with ``gnn_type="gcn"``, with and without virtual node.

    Deviations:
        1. Embeddings of whole-numbered features are a linear layer without bias of the same, one-hot.
        2. Dropout is 0 unless set; officially 0.5.
        3. Embeddings of edges have a bias.

    Args:
        in_channels: Features of a node.
        classes: Number of outputs K.
        edge_channels: Features of an edge; 0 for none.
        hidden: Channels of the layers.
        layers: Graph convolutions.
        dropout: Rate of the dropout after every layer.
        virtual_node: Whether a virtual node takes part.
        residual: Whether every layer adds to what it reads.

    Example:
        >>> graph = Graph(x=torch.rand(3, 5), edge_index=torch.tensor([[0, 1], [1, 0]]), edge_attr=torch.rand(2, 4))
        >>> OgbGcn(5, 2, edge_channels=4, hidden=8)(graph).shape
        torch.Size([1, 2])
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        edge_channels: int = 0,
        hidden: int = 300,
        layers: int = 5,
        dropout: float = 0.0,
        virtual_node: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.encoder = nn.Linear(in_channels, hidden, bias=False)
        self.blocks = nn.ModuleList(
            _Block(hidden, edge_channels, dropout, last=layer == layers - 1) for layer in range(layers)
        )
        self.virtual = nn.ModuleList(
            _virtual(hidden, dropout) for _ in range(layers - 1 if virtual_node else 0)
        )
        self.virtual_start = nn.Parameter(torch.zeros(hidden)) if virtual_node else None
        self.head = nn.Linear(hidden, classes)

    def forward(self, graphs: Graph) -> Tensor:
        """Return outputs [B, K] of one graph or several in one."""
        count = graphs.num_graphs if graphs.batch is not None else 1
        graph_of_node = (
            graphs.batch if graphs.batch is not None else graphs.edge_index.new_zeros(len(graphs.x))
        )
        edges = graphs.edge_index
        degrees = torch.bincount(edges[0], minlength=len(graphs.x)).to(graphs.x.dtype) + 1
        root = degrees.rsqrt()
        norm = root[edges[0]] * root[edges[1]]
        x: Tensor = self.encoder(graphs.x)
        virtual = self.virtual_start.expand(count, -1) if self.virtual_start is not None else None
        for layer, block in enumerate(self.blocks):
            if virtual is not None:
                x = x + virtual.index_select(0, graph_of_node)
            out = block(x, graphs, norm, degrees)
            if virtual is not None and layer < len(self.virtual):
                virtual = self.virtual[layer](global_add_pool(x, graph_of_node, size=count) + virtual)
            x = out + x if self.residual else out
        logits: Tensor = self.head(global_mean_pool(x, graph_of_node, size=count))
        return logits

    def feature_points(self) -> Sequence[FeaturePoint]:
        """Return the layers' outputs, [N, C]; those between two layers are the default ones."""
        last = len(self.blocks) - 1
        return [
            FeaturePoint(
                f"blocks.{i}",
                channels=self.head.in_features,
                layout="nodes",
                default=i < last or not last,
                aligned=False,
            )
            for i in range(len(self.blocks))
        ]

    def output_layers(self) -> Sequence[str]:
        """Return the layer whose output is the logits."""
        return ("head",)


class _Block(nn.Module):
    """A convolution, batch-norm, ReLU but in the last layer, and dropout."""

    def __init__(self, hidden: int, edge_channels: int, dropout: float, *, last: bool) -> None:
        super().__init__()
        self.lin = nn.Linear(hidden, hidden)
        self.edge_encoder = nn.Linear(edge_channels, hidden) if edge_channels else None
        self.root = nn.Parameter(torch.randn(hidden))
        self.norm = nn.BatchNorm1d(hidden)
        self.act = nn.Identity() if last else nn.ReLU()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor, graphs: Graph, norm: Tensor, degrees: Tensor) -> Tensor:
        edges, edge_attr = graphs.edge_index, graphs.edge_attr
        x = self.lin(x)
        messages = x.index_select(0, edges[0])
        if self.edge_encoder is not None and edge_attr is not None:
            messages = messages + self.edge_encoder(edge_attr)
        messages = drop_messages(graphs, F.relu(messages) * norm[:, None])
        summed = torch.zeros_like(x).index_add(0, edges[1], messages)
        x = summed + F.relu(x + self.root) / degrees[:, None]
        x = self.dropout(self.act(self.norm(x)))
        return x


def _virtual(hidden: int, dropout: float) -> nn.Module:
    """Return what a virtual node does with the sum of its graph."""
    return nn.Sequential(
        nn.Linear(hidden, 2 * hidden),
        nn.BatchNorm1d(2 * hidden),
        nn.ReLU(),
        nn.Linear(2 * hidden, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Dropout(dropout) if dropout else nn.Identity(),
    )


def build_ogb_gcn(settings: OgbGcnSettings, task: Task) -> OgbGcn:
    """Return OGB's GCN for a task, each column of one-hot features with the range of an embedding of its own."""
    model = OgbGcn(
        task.in_channels,
        len(task.classes),
        edge_channels=getattr(task, "edge_channels", 0),
        **settings.settings(),
    )
    of_nodes, of_edges = getattr(task, "blocks_of_features", ((), ()))
    _start(model.encoder, of_nodes)
    if any(width > 1 for width in of_edges):
        for block in model.blocks:
            _start(block.edge_encoder, of_edges)  # type: ignore[arg-type]
    return model


def _start(layer: nn.Linear, widths: Sequence[int]) -> None:
    begin = 0
    for width in widths:
        bound = (6 / (width + layer.out_features)) ** 0.5
        nn.init.uniform_(layer.weight[:, begin : begin + width].detach(), -bound, bound)
        begin += width
