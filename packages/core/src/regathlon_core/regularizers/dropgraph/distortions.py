"""What makes the distortions of one place: the graph of DropGraph, and what Table 8 of its paper compares it with."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.regularizers.dropgraph.functional import (
    sample_graph_vertices,
    sample_vertices,
    take_positions,
)
from regathlon_core.regularizers.dropgraph.packing import pack_graphs
from regathlon_core.regularizers.dropgraph.reasoning import (
    graph_reasoning,
    shared_reasoning,
    vertex_adjacency,
)
from regathlon_core.regularizers.dropgraph.settings import DropGraphSettings


@dataclass(frozen=True)
class Features:
    """What distortions are made from.

    Attributes:
        x: [B, C, N], any floating dtype.
        spatial: Sides of the map, N positions in all.
        present: Which positions are there, bool [B, N]; None for all.
    """

    x: Tensor
    spatial: tuple[int, ...]
    present: Tensor | None

    @property
    def values(self) -> Tensor:
        """The features in float32, or float64."""
        return self.x if self.x.dtype == torch.float64 else self.x.float()

    def average(self, values: Tensor) -> Tensor:
        """Return the average over the positions that are there of values [B, C, N], as [B, 1, C]."""
        if self.present is None:
            return values.mean(dim=2)[:, None]
        there = self.present.to(values.dtype)
        return ((values @ there[:, :, None]) / there.sum(dim=1)[:, None, None]).mT


@dataclass(frozen=True)
class Distorted:
    """Distortions, and where they go.

    Attributes:
        x: The features that they are put in, [B, C, N].
        values: Distortions [B, K, C], float32 or float64.
        owner: Which of the K each position takes, int64 [B, N]; None where K is 1.
    """

    x: Tensor
    values: Tensor
    owner: Tensor | None = None


class Distortions(nn.Module, abc.ABC):
    """Makes distortions; its parameters are trained with the model.

    Args:
        settings: Of the regularizer.
        channels: C of the features.
    """

    def __init__(self, settings: DropGraphSettings, channels: int) -> None:
        super().__init__()
        self.settings = settings

    @abc.abstractmethod
    def forward(self, features: Features, generator: torch.Generator | None) -> Distorted:
        """Return distortions of features."""


class Graph(Distortions):
    """Partial graph reasoning: three matrices, no biases."""

    def __init__(self, settings: DropGraphSettings, channels: int) -> None:
        super().__init__(settings, channels)
        hidden = max(1, channels // settings.reduction)
        self.w1 = nn.Parameter(torch.empty(channels, hidden))
        self.w2 = nn.Parameter(torch.empty(hidden, hidden))
        self.w3 = nn.Parameter(torch.empty(hidden, channels))
        for weight in self.parameters():  # inputs are rows here: fan_out of the stored shape is the fan-in
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
        self.edges: nn.Parameter | None = None
        if settings.adjacency == "learned":  # rows sum to about 1, as in all other designs
            size = settings.max_vertices
            self.edges = nn.Parameter(torch.rand(size, size) * (2 / size))

    def forward(self, features: Features, generator: torch.Generator | None) -> Distorted:
        """Reason over sampled vertices; pool, or hand every position a vertex's own."""
        settings, x = self.settings, features.x
        index, valid = sample_vertices(
            len(x),
            x.shape[2],
            settings.alpha,
            limit=settings.max_vertices,
            present=features.present,
            generator=generator,
            device=x.device,
        )
        kept, vertices = take_positions(x, index)
        vertices = vertices if x.dtype == torch.float64 else vertices.float()
        if settings.pool == "none":
            weights = (weight.to(vertices.dtype) for weight in (self.w1, self.w2, self.w3))
            adjacency = vertex_adjacency(
                vertices, settings.adjacency, settings.temperature, valid, learned=self.edges
            )
            reasoned = graph_reasoning(vertices, adjacency, *weights)
            return Distorted(kept, reasoned, _owners(index, valid, x.shape[2], generator))
        shares = vertices.new_ones(index.shape) if valid is None else valid.to(vertices.dtype)
        shares = shares / shares.sum(dim=1, keepdim=True)
        pooled = self._share(vertices, shares, valid).sum(dim=2)
        return Distorted(kept, (pooled @ self.w3.to(vertices.dtype))[:, None])

    def of_graphs(
        self, x: Tensor, graph_of_node: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Reason over the vertices of many graphs, each by itself, and pool.

        Args:
            x: Features of nodes [N, C], any floating dtype.
            graph_of_node: Graph of each node, int64 [N], rising from 0.
            generator: Source of randomness.

        Returns:
            The features to go on with (``take_positions``), and a distortion for each graph, float32 or float64 [B, C]; zero
            for a graph without a node.
        """
        settings = self.settings
        nodes, counts = sample_graph_vertices(
            graph_of_node, settings.alpha, limit=settings.max_vertices, generator=generator
        )
        packing = pack_graphs(counts)
        kept, vertices = take_positions(x.T[None], nodes.index_select(0, packing.item)[None])
        vertices = vertices.squeeze(0)  # unlike [0], costs nothing backwards
        vertices = vertices if x.dtype == torch.float64 else vertices.float()
        graph = packing.graph.clamp(min=0)
        shares = (packing.graph >= 0) * (1 / counts.clamp(min=1).to(vertices.dtype)).index_select(0, graph)
        made = [
            self._share(*block).mT.flatten(0, 1)
            for block in zip(*map(packing.blocks, (vertices, shares, packing.graph)), strict=True)
        ]
        pooled = vertices.new_zeros(len(counts), self.w2.shape[0]).index_add(0, graph, torch.cat(made))
        return kept.squeeze(0).T, pooled @ self.w3.to(vertices.dtype)

    def _share(self, vertices: Tensor, shares: Tensor, graph: Tensor | None) -> Tensor:
        settings = self.settings
        w1, w2 = self.w1.to(vertices.dtype), self.w2.to(vertices.dtype)
        return shared_reasoning(
            vertices, w1, w2, shares, settings.adjacency, settings.temperature, graph, learned=self.edges
        )


def _owners(index: Tensor, valid: Tensor | None, positions: int, generator: torch.Generator | None) -> Tensor:
    """Return whose distortion each position takes: its own vertex's where it was sampled, else a random one's."""
    batch, size = index.shape
    count: Any = size if valid is None else valid.sum(dim=1)[:, None]
    uniform = torch.rand(batch, positions, generator=generator, device=index.device)
    owner = (uniform * count).long().clamp_(max=size - 1)
    rank = torch.arange(size, device=index.device).expand_as(index)
    own = rank if valid is None else torch.where(valid, rank, owner.gather(1, index))
    owners: Tensor = owner.scatter(1, index, own)
    return owners


class Noise(Distortions):
    """Gaussian noise as large as the features of the sample."""

    def forward(self, features: Features, generator: torch.Generator | None) -> Distorted:
        """Draw every position's own."""
        x = features.values.detach()
        mean = features.average(x).mean(dim=2, keepdim=True)
        variance = features.average((x - mean).square()).mean(dim=2, keepdim=True)
        noise = torch.randn(x.mT.shape, generator=generator, device=x.device, dtype=x.dtype)
        return Distorted(features.x, noise * variance.sqrt(), _themselves(x))


class Average(Distortions):
    """The average of all positions."""

    def forward(self, features: Features, generator: torch.Generator | None) -> Distorted:
        """Average."""
        return Distorted(features.x, features.average(features.values))


class Conv(Distortions):
    """A 3 by 3 convolution of the map, without bias; its average over the map with ``pool="mean"``."""

    dilation = 1

    def __init__(self, settings: DropGraphSettings, channels: int) -> None:
        super().__init__(settings, channels)
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")

    def forward(self, features: Features, generator: torch.Generator | None) -> Distorted:
        """Convolve.

        Raises:
            UserError: The map has not two sides.
        """
        x = features.values
        if len(features.spatial) != 2:
            raise UserError(
                f"dropgraph: distortion={self.settings.distortion} needs maps with two sides; these have "
                f"{len(features.spatial)}. Use distortion=graph."
            )
        maps = x.reshape(*x.shape[:2], *features.spatial)
        out = F.conv2d(maps, self.weight.to(x.dtype), padding=self.dilation, dilation=self.dilation).flatten(
            2
        )
        if self.settings.pool == "mean":
            return Distorted(features.x, features.average(out))
        return Distorted(features.x, out.mT, _themselves(x))


class DilatedConv(Conv):
    """The same with a dilation of 3."""

    dilation = 3


def _themselves(x: Tensor) -> Tensor:
    return torch.arange(x.shape[2], device=x.device).expand(len(x), -1)


DISTORTIONS: dict[str, type[Distortions]] = {
    "graph": Graph,
    "noise": Noise,
    "average": Average,
    "conv": Conv,
    "dilated_conv": DilatedConv,
}
"""By the name that settings use."""
