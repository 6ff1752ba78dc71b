"""DGCNN: convolutions on the edges of graphs of neighbours, which are found anew in every layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core.features import FeaturePoint
from regathlon_core.passes import PassRole, current_role
from regathlon_core.task import Task
from regathlon_points.models.layers import EdgeNorm, gather, head, scaled, shared_layer
from regathlon_points.models.settings import DGCNNSettings
from regathlon_points.ops import knn

_EDGES = (64, 64, 128, 256)
_EMBEDDING = 1024
_HEAD = (512, 256)
_SLOPE = 0.2


class EdgeConv(nn.Module):
    """Features of a point from its edges: the maximum over neighbours j of φ(W [x_j - x_i ; x_i]).

    The map W = [W_near, W_own] is linear, W_near x_j + (W_own - W_near) x_i, so it is applied to points and
    not to edges, of which there are k times as many. φ, a batch-norm and a leaky ReLU, is monotone in each
    channel, but the norm takes its statistics over all edges. Where relevance is asked for, edges are
    convolved as written, so that its rules see the contributions of x_j - x_i and x_i.

    Source: Wang et al., "Dynamic Graph CNN for Learning on Point Clouds", ACM TOG 2019, equations 7 and 8.

    Args:
        channels: Of a point, C.
        out: Of the result, C'.
        k: Neighbours, the point itself included; a cloud of fewer points uses all.

    Example:
        >>> EdgeConv(3, 8, k=4)(torch.randn(2, 3, 20)).shape
        torch.Size([2, 8, 20])
    """

    def __init__(self, channels: int, out: int, *, k: int = 20) -> None:
        super().__init__()
        self.k = k
        self.near = nn.Conv1d(channels, out, 1, bias=False)
        self.own = nn.Conv1d(channels, out, 1, bias=False)
        with torch.no_grad():  # as one layer of both would be initialised
            for half in (self.near, self.own):
                half.weight.div_(2**0.5)
        self.norm = EdgeNorm(out)
        self.activation = nn.LeakyReLU(_SLOPE)

    def forward(self, x: Tensor, index: Tensor | None = None) -> Tensor:
        """Return [B, C', N] of points [B, C, N].

        Args:
            x: Features.
            index: Neighbours, int64 [B, N, k]; None for the nearest ones by the features.
        """
        if index is None:
            index = knn(x.detach().mT, min(self.k, x.shape[2]))
        if current_role() is PassRole.ATTRIBUTION:
            edges = self._convolved_edges(x, index)
        else:
            near = self.near(x)
            edges = gather(near, index) + (self.own(x) - near)[..., None]
        out: Tensor = self.activation(self.norm(edges)).amax(dim=3)
        return out

    def _convolved_edges(self, x: Tensor, index: Tensor) -> Tensor:
        own = x[..., None]
        edges = torch.cat([gather(x, index) - own, own.expand(-1, -1, -1, index.shape[2])], dim=1)
        return F.conv2d(edges, torch.cat([self.near.weight, self.own.weight], dim=1)[..., None])


class DGCNN(nn.Module):
    """DGCNN for classification.

    Source: Wang et al., "Dynamic Graph CNN for Learning on Point Clouds", ACM TOG 2019, figure 3; reference
    code https://github.com/WangYueFt/dgcnn.

    Deviations: (1) no spatial transformer, as in the reference code in PyTorch; (2) an EdgeConv's weight is
    kept as two halves, and initialised like the whole; (3) fully connected layers before a norm have no bias;
    (4) in the head a batch of one cloud is normalised by the running statistics.

    Args:
        in_channels: Channels of a point, C; all of them are features, and the first graph is of them.
        classes: Number of classes K.
        k: Neighbours.
        width: Factor on the channels of every hidden layer.
        dropout: Rate of the dropout behind the head's layers.

    Example:
        >>> DGCNN(in_channels=3, classes=10, k=5, width=0.25)(torch.randn(2, 3, 40)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, in_channels: int, classes: int, *, k: int = 20, width: float = 1.0, dropout: float = 0.5
    ) -> None:
        super().__init__()
        sizes = scaled(_EDGES, width)
        (embedding,) = scaled((_EMBEDDING,), width)
        hidden = scaled(_HEAD, width)
        self.edges = nn.ModuleList(
            EdgeConv(i, o, k=k) for i, o in zip([in_channels, *sizes], sizes, strict=False)
        )
        self.embedding = shared_layer(sum(sizes), embedding, _SLOPE)
        self.head = head(2 * embedding, hidden, dropout, _SLOPE)
        self.classifier = nn.Linear(hidden[-1], classes)

    def forward(self, points: Tensor) -> Tensor:
        """Return logits [B, K] of clouds [B, C, N]."""
        x, levels = points, []
        for edge in self.edges:
            x = edge(x)
            levels.append(x)
        x = self.embedding(torch.cat(levels, dim=1))
        logits: Tensor = self.classifier(self.head(torch.cat([x.amax(dim=2), x.mean(dim=2)], dim=1)))
        return logits

    def feature_points(self) -> Sequence[FeaturePoint]:
        """Return the outputs of the EdgeConvs [B, C, N], where DropGraph acts in its paper, and the embedding."""
        edges = [
            FeaturePoint(f"edges.{i}", channels=edge.norm.num_features, aligned=False)  # type: ignore[union-attr, arg-type]
            for i, edge in enumerate(self.edges)
        ]
        size: int = self.embedding[0].out_channels  # type: ignore[assignment]
        return [*edges, FeaturePoint("embedding", channels=size, default=False, aligned=False)]

    def output_layers(self) -> Sequence[str]:
        """Return the layer whose output is the logits."""
        return ("classifier",)


def build_dgcnn(settings: DGCNNSettings, task: Task) -> DGCNN:
    """Return a DGCNN that fits the task."""
    return DGCNN(
        task.in_channels,
        len(task.classes),
        k=settings.k,
        width=settings.width,
        dropout=settings.dropout,
    )
