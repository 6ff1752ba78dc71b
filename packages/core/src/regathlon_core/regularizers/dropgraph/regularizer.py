"""DropGraph as a layer and attached to a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.features import FeaturePoint
from regathlon_core.ops.block_mask import sample_block_mask
from regathlon_core.ops.drop import keep_scale
from regathlon_core.regularizer import FeatureRegularizer
from regathlon_core.regularizers.dropgraph.functional import (
    SCHEDULES,
    graph_reasoning,
    sample_vertices,
    vertex_adjacency,
)
from regathlon_core.regularizers.dropgraph.settings import DropGraphSettings


class GraphBranch(nn.Module):
    """The weights of one place's graph network: three matrices, no biases.

    Args:
        channels: C of the features.
        reduction: C over the hidden width, which is at least 1.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.w1 = nn.Parameter(torch.empty(channels, hidden))
        self.w2 = nn.Parameter(torch.empty(hidden, hidden))
        self.w3 = nn.Parameter(torch.empty(hidden, channels))
        for weight in self.parameters():  # inputs are rows here: fan_out of the stored shape is the fan-in
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")


class DropGraph(FeatureRegularizer[DropGraphSettings]):
    """Replace dropped features by distortions that a graph of sampled feature vectors reasons out.

    Two branches. The mask branch drops blocks as DropBlock does, one gate per feature vector. The graph
    branch samples a share ``alpha`` of the positions as vertices, joins them by an adjacency that favours
    unlike ones (Eq. 6), passes them through two graph-convolution bottlenecks with a residual one between,
    and pools the result to one distortion per map. Dropped units become that distortion times U(0, 1).
    Gradients train the graph network and, through the vertices, the model.

    Every sample has a graph of its own; of a batch of graphs, every graph is a sample.

    As a layer of one's own it needs the number of channels:
    ``layer.prepare([FeaturePoint("", channels=64)])``.

    Source: Xiang et al.: Partial Graph Reasoning for Neural Network Regularization, arXiv:2106.01805 (v2),
    Algorithm 1, Eqs. 2-6. No code was published.

    Choices where the paper is silent: (1) the softmax's temperature is the number of channels; (2) exactly
    round(alpha·positions) vertices instead of Bernoulli(alpha); (3) the shapes of schedules f2 to f5.

    Example:
        >>> from regathlon_core import DropGraph, FeaturePoint
        >>> layer = DropGraph(p=0.3, block_size=3)
        >>> layer.prepare([FeaturePoint("", channels=8)])
        >>> layer(torch.randn(2, 8, 10, 10)).shape
        torch.Size([2, 8, 10, 10])
    """

    Settings = DropGraphSettings

    def __init__(self, settings: DropGraphSettings | None = None, /, **keywords: object) -> None:
        super().__init__(settings, **keywords)
        self.branches = nn.ModuleDict()

    def prepare(self, points: Sequence[FeaturePoint]) -> None:
        """Make the graph network of every place.

        Raises:
            UserError: A place's number of channels is not known.
        """
        for point in points:
            if point.channels < 1:
                raise UserError(
                    f"dropgraph needs the number of channels at {point.module!r}; attach it with a task, whose "
                    f"features() say so, or call prepare([FeaturePoint({point.module!r}, channels=...)])."
                )
            if _key(point.module) not in self.branches:
                self.branches[_key(point.module)] = GraphBranch(point.channels, self.settings.reduction)

    def schedule(self, progress: float) -> float:
        """Return the share of the full probability."""
        return SCHEDULES[self.settings.schedule](progress)

    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        """Distort features [B, C, *spatial]."""
        settings = self.settings
        if settings.p == 0:
            return x
        p = settings.p * self.strength
        if p.device.type == "cpu" and p == 0:  # elsewhere reading it back would wait for the device
            return x
        channels = x.shape[1] if settings.per_channel else 1
        dropped = sample_block_mask(
            (len(x), channels), x.shape[2:], settings.block_size, p, generator=generator, device=x.device
        )
        features = x.flatten(2) if x.dtype == torch.float64 else x.flatten(2).float()
        # Products of many channels overflow half precision.
        with torch.autocast(x.device.type, enabled=False):
            distortion = self._distortion(features, generator, place)
            noise = torch.rand(features.shape, generator=generator, device=x.device, dtype=features.dtype)
            distorted = (distortion * noise).to(x.dtype).view_as(x)
        out = torch.where(dropped, distorted, x)
        return out * keep_scale(dropped).to(x.dtype) if settings.rescale else out

    def _distortion(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        """Return the distortion of [B, C, N] features: [B, C, 1], or [B, C, N] without pooling."""
        settings = self.settings
        branch = self._branch(place)
        index, valid = sample_vertices(
            len(x),
            x.shape[2],
            settings.alpha,
            limit=settings.max_vertices,
            present=self.present,
            generator=generator,
            device=x.device,
        )
        vertices = x.gather(2, index[:, None].expand(-1, x.shape[1], -1)).mT
        adjacency = vertex_adjacency(vertices, settings.adjacency, settings.temperature, valid)
        weights = (weight.to(x.dtype) for weight in (branch.w1, branch.w2, branch.w3))
        reasoned = graph_reasoning(vertices, adjacency, *weights)
        count = valid.sum(dim=1) if valid is not None else index.new_full((len(x),), index.shape[1])
        if settings.pool == "mean":  # rows of vertices that are not there are zero
            return (reasoned.sum(dim=1) / count[:, None])[:, :, None]
        # A position that was sampled takes its own vertex's distortion, any other that of a random vertex.
        uniform = torch.rand(len(x), x.shape[2], generator=generator, device=x.device)
        owner = (uniform * count[:, None]).long().clamp_(max=index.shape[1] - 1)
        rank = torch.arange(index.shape[1], device=x.device).expand_as(index)
        own = rank if valid is None else torch.where(valid, rank, owner.gather(1, index))
        owner = owner.scatter(1, index, own)
        return reasoned.gather(1, owner[:, :, None].expand(-1, -1, x.shape[1])).mT

    def _branch(self, place: str) -> GraphBranch:
        key = _key(place)
        if key not in self.branches:
            raise UserError(
                "As a layer of your own, dropgraph needs prepare([FeaturePoint('', channels=...)]) first."
            )
        branch: GraphBranch = self.branches[key]  # type: ignore[assignment]
        return branch


def _key(place: str) -> str:
    """Module dictionaries allow no dots, and no empty names."""
    return f"at_{place.replace('.', '_')}"
