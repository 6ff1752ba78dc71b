"""DropGraph as a layer and attached to a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.features import FeaturePoint, Grouping, key_of_place, require_channels
from regathlon_core.ops.block_mask import sample_block_mask
from regathlon_core.ops.drop import keep_scale
from regathlon_core.ops.sampling import sample_bernoulli
from regathlon_core.passes import PassRole, current_role
from regathlon_core.regularizer import FeatureRegularizer
from regathlon_core.regularizers.dropgraph.distortions import DISTORTIONS, Distortions, Features
from regathlon_core.regularizers.dropgraph.functional import SCHEDULES, cast_within, replace_positions
from regathlon_core.regularizers.dropgraph.settings import DropGraphSettings


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
        """Make every place's graph network, or what else makes its distortions.

        Raises:
            UserError: A place's number of channels is not known.
        """
        for point in points:
            require_channels(self.settings.name, point)
            if key_of_place(point.name) not in self.branches:
                make = DISTORTIONS[self.settings.distortion]
                self.branches[key_of_place(point.name)] = make(self.settings, point.channels)

    def schedule(self, progress: float) -> float:
        """Return the share of the full probability."""
        return SCHEDULES[self.settings.schedule](progress)

    def grouping(self) -> Grouping:
        """Every sample has a graph of its own."""
        return "size"

    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        """Distort features [B, C, *spatial]."""
        settings = self.settings
        if settings.p == 0:
            return x
        p = settings.p * self.rate(place) * self.strength
        if p.device.type == "cpu" and p == 0:  # elsewhere reading it back would wait for the device
            return x
        channels, spatial = x.shape[1], tuple(x.shape[2:])
        lead = (len(x), channels if settings.per_channel else 1)
        dropped = sample_block_mask(
            lead, spatial, settings.block_size, p, generator=generator, device=x.device
        )
        features = Features(x.flatten(2), spatial, self.present)
        with torch.autocast(
            x.device.type, enabled=False
        ):  # products of many channels overflow half precision
            made = self._distortions(place)(features, generator)
            out = replace_positions(made.x, dropped, made.values, made.owner, generator)
        return out * keep_scale(dropped).to(x.dtype) if settings.rescale else out

    def _at(self, point: FeaturePoint, features: Tensor) -> Tensor:
        settings, graph_of_node = self.settings, self._graph_of_node
        by_graph = settings.distortion == "graph" and settings.pool == "mean" and settings.block_size == 1
        if (
            point.layout != "nodes"
            or graph_of_node is None
            or not by_graph
            or settings.per_channel
            or settings.rescale
        ):
            return super()._at(point, features)
        if current_role() in (PassRole.PROBE, PassRole.ATTRIBUTION):
            return features
        return self._act_on_graphs(features, graph_of_node, point.name)

    def _act_on_graphs(self, x: Tensor, graph_of_node: Tensor, place: str) -> Tensor:
        """Distort nodes [N, C] of many graphs, without filling them up to one size."""
        p = self.settings.p * self.rate(place) * self.strength
        if self.settings.p == 0 or (p.device.type == "cpu" and p == 0) or not len(x):
            return x
        generator = self._generator
        dropped = sample_bernoulli((len(x),), p, generator=generator, device=x.device).nonzero()[:, 0]
        with torch.autocast(x.device.type, enabled=False):
            graph: Any = self._distortions(place)
            kept, made = graph.of_graphs(x, graph_of_node, generator)
            values = made.index_select(0, graph_of_node.index_select(0, dropped))
            noise = torch.rand(values.shape, generator=generator, device=x.device, dtype=values.dtype)
            out: Tensor = kept.index_copy(0, dropped, cast_within(values * noise, x.dtype))
            return out

    def _distortions(self, place: str) -> Distortions:
        key = key_of_place(place)
        if key not in self.branches:
            raise UserError(
                "As a layer of your own, dropgraph needs prepare([FeaturePoint('', channels=...)]) first."
            )
        branch: Distortions = self.branches[key]  # type: ignore[assignment]
        return branch
