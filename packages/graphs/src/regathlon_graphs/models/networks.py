"""Networks of graph convolutions, for nodes and for whole graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

from torch import Tensor, nn

from regathlon_core.features import FeaturePoint
from regathlon_core.task import Task
from regathlon_graphs.models.convolutions import Kind, convolution, convolve
from regathlon_graphs.models.settings import (
    GraphNetworkSettings,
    NodeNetworkSettings,
    check_pooling,
)
from regathlon_graphs.propagation import Normalization, Propagation
from regathlon_graphs.pyg import Graph, PairNorm, global_add_pool, global_mean_pool

_POOL: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {"sum": global_add_pool, "mean": global_mean_pool}
)


class NodeNetwork(nn.Module):
    """Graph convolutions that give every node logits.

    Sources: Kipf and Welling, "Semi-Supervised Classification with Graph Convolutional Networks", ICLR 2017,
        equation 9 (``"gcn"``); Veličković et al., "Graph Attention Networks", ICLR 2018 (``"gat"``); Hamilton, Ying and
        Leskovec, "Inductive Representation Learning on Large Graphs", NeurIPS 2017, the mean aggregator (``"sage"``).

    Deviations:
        1. Dropout and batch-norm are optional; Kipf and Welling have dropout 0.5 before both layers and no batch-norm.
        2. Features are taken as the task gives them; theirs are scaled to a sum of 1 for each node.
        3. Hidden layers end in ReLU, those of ``"gat"`` in ELU; attention weights are not dropped.

    Args:
        in_channels: Features of a node.
        classes: Number of classes K.
        kind: Of the convolutions.
        hidden: Channels of the hidden layers; of ``"gat"`` a multiple of ``heads``.
        layers: Graph convolutions in all.
        norm: Whether hidden layers are batch-normalised.
        dropout: Rate of the dropout before every layer.
        normalization: Of a GCN's adjacency: ``"symmetric"``, or ``"row"`` as in https://github.com/tkipf/pygcn.
        init: Of a GCN's weights: ``"glorot"``, or ``"uniform"`` as in pygcn.
        heads: Attention heads of a hidden ``"gat"`` layer; the last layer has one.
        pair_norm: Scale of PairNorm after every hidden layer; 0 for none.

    Example:
        >>> import torch
        >>> graph = Graph(x=torch.rand(3, 5), edge_index=torch.tensor([[0, 1], [1, 0]]))
        >>> NodeNetwork(in_channels=5, classes=2)(graph).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        kind: Kind = "gcn",
        hidden: int = 16,
        layers: int = 2,
        norm: bool = False,
        dropout: float = 0.0,
        normalization: Normalization = "symmetric",
        init: str = "glorot",
        heads: int = 1,
        pair_norm: float = 0.0,
    ) -> None:
        super().__init__()
        self.normalization = normalization
        widths = [in_channels] + [hidden] * (layers - 1)
        self.blocks = nn.ModuleList(_Block(kind, i, o, norm, init, heads) for i, o in pairwise(widths))
        self.dropout = _dropout(dropout)
        self.pair_norm = PairNorm(scale=pair_norm) if pair_norm else nn.Identity()
        self.head = convolution(kind, widths[-1], classes, init=init)

    def forward(self, graph: Graph) -> Tensor:
        """Return logits [N, K] of a graph's nodes, whose features are ``graph.x`` [N, F]."""
        edges = Propagation(graph, self.normalization)
        x: Tensor = graph.x
        for block in self.blocks:
            x = self.pair_norm(block(self.dropout(x), edges))
        return convolve(self.head, self.dropout(x), edges)

    def feature_points(self) -> Sequence[FeaturePoint]:
        """Return the outputs of the hidden layers, [N, C]: where the published network has its dropout."""
        return _points(self.blocks, default=len(self.blocks))

    def output_layers(self) -> Sequence[str]:
        """Return the layer whose output is the logits."""
        return ("head",)


class GraphNetwork(nn.Module):
    """Graph convolutions whose outputs are pooled over each graph's nodes and classified by a linear layer.

    Sources: the convolutions of Kipf and Welling, ICLR 2017 (``"gcn"``), or of Xu, Hu, Leskovec and Jegelka,
        "How
    Powerful are Graph Neural Networks?", ICLR 2019, equation 4.1 (``"gin"``); reference code of the latter
    https://github.com/weihua916/powerful-gnns.

    Deviations:
        1. Only the last layer's output is pooled; GIN's reference pools that of every layer.

    Args:
        in_channels: Features of a node.
        classes: Number of classes K.
        kind: Of the convolutions: ``"gcn"`` or ``"gin"``.
        hidden: Channels of the layers.
        layers: Graph convolutions.
        pooling: ``"sum"`` or ``"mean"``.
        norm: Whether layers are batch-normalised.
        dropout: Rate of the dropout before the classifier.
        normalization: Of a GCN's adjacency: ``"symmetric"`` or ``"row"``.
        init: Of a GCN's weights: ``"glorot"`` or ``"uniform"``.

    Raises:
        UserError: There is no such pooling.

    Example:
        >>> import torch
        >>> from regathlon_graphs.pyg import Graphs
        >>> path = Graph(x=torch.rand(3, 5), edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]))
        >>> GraphNetwork(in_channels=5, classes=2)(Graphs.from_data_list([path, path])).shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        kind: Kind = "gin",
        hidden: int = 32,
        layers: int = 3,
        pooling: str = "sum",
        norm: bool = True,
        dropout: float = 0.0,
        normalization: Normalization = "symmetric",
        init: str = "glorot",
    ) -> None:
        super().__init__()
        self.normalization = normalization
        self.pooling = check_pooling(pooling)
        widths = [in_channels] + [hidden] * layers
        self.blocks = nn.ModuleList(_Block(kind, i, o, norm, init) for i, o in pairwise(widths))
        self.dropout = _dropout(dropout)
        self.head = nn.Linear(hidden, classes)

    def forward(self, graphs: Graph) -> Tensor:
        """Return logits [B, K] of one graph or several in one, whose features are ``graphs.x`` [N, F]."""
        edges = Propagation(graphs, self.normalization)
        x: Tensor = graphs.x
        for block in self.blocks:
            x = block(x, edges)
        count = (
            graphs.num_graphs if graphs.batch is not None else 1
        )  # read, not counted: the last ones may be empty
        logits: Tensor = self.head(self.dropout(_POOL[self.pooling](x, graphs.batch, size=count)))
        return logits

    def feature_points(self) -> Sequence[FeaturePoint]:
        """Return the layers' outputs, [N, C]; those that another layer follows are the default ones."""
        return _points(self.blocks, default=max(1, len(self.blocks) - 1))

    def output_layers(self) -> Sequence[str]:
        """Return the layer whose output is the logits."""
        return ("head",)


class _Block(nn.Module):
    """A convolution, batch-norm if wanted, and an activation: features [N, C] to [N, C']."""

    def __init__(self, kind: Kind, channels: int, out: int, norm: bool, init: str, heads: int = 1) -> None:
        super().__init__()
        self.out_channels = out
        self.conv = convolution(kind, channels, out, init=init, heads=heads)
        self.norm = nn.BatchNorm1d(out) if norm else nn.Identity()
        self.act = nn.ELU() if kind == "gat" else nn.ReLU()

    def forward(self, x: Tensor, edges: Propagation) -> Tensor:
        x = self.act(self.norm(convolve(self.conv, x, edges)))
        return x


def _dropout(rate: float) -> nn.Module:
    return nn.Dropout(rate) if rate else nn.Identity()


def _points(blocks: nn.ModuleList, default: int) -> list[FeaturePoint]:
    """Return the outputs of the blocks; the first ``default`` of them are default points."""
    channels = [block.out_channels for block in blocks]
    return [
        FeaturePoint(f"blocks.{i}", channels=count, layout="nodes", default=i < default, aligned=False)  # type: ignore[arg-type]
        for i, count in enumerate(channels)
    ]


def build_node_network(settings: NodeNetworkSettings, task: Task) -> NodeNetwork:
    """Return graph convolutions that fit a task of classifying nodes; a GCN, GAT or GraphSAGE as its name says."""
    return NodeNetwork(task.in_channels, len(task.classes), kind=settings.name, **settings.settings())  # type: ignore[arg-type]


def build_graph_network(settings: GraphNetworkSettings, task: Task) -> GraphNetwork:
    """Return pooled graph convolutions that fit a task of classifying graphs; a GCN or GIN as its name says."""
    return GraphNetwork(task.in_channels, len(task.classes), kind=settings.name, **settings.settings())  # type: ignore[arg-type]
