"""Partial graph reasoning as a layer, or attached to a model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.features import FeaturePoint, key_of_place, require_channels
from regathlon_core.regularizer import FeatureRegularizer
from regathlon_core.regularizers.partial_graph.functional import partial_graph
from regathlon_core.regularizers.partial_graph.settings import PartialGraphSettings
from regathlon_core.rng import stream


class PartialGraph(FeatureRegularizer[PartialGraphSettings]):
    r"""Replace a share of the feature vectors by a graph convolution of these vectors; the step before DropGraph.

    X becomes (X \ V) ∪ (A V W): V are the sampled vectors, A their adjacency (DropGraph's Eq. 6), W a learned matrix per
    place. With ``inference=True`` it also acts in evaluation, while it is attached: the one setting at which a
    regularizer of this package is not the identity there, since the paper's Table 1 asks what it would be worth.

    As a layer of one's own it needs the number of channels:
    ``layer.prepare([FeaturePoint("", channels=64)])``.

    Source: Xiang et al.: Partial Graph Reasoning for Neural Network Regularization, arXiv:2106.01805 (v2), Eq. 4 and
    Table 1. The paper says nothing of how A is made there; it is that of Eq. 6.

    Example:
        >>> from regathlon_core import FeaturePoint, PartialGraph
        >>> layer = PartialGraph(alpha=0.5)
        >>> layer.prepare([FeaturePoint("", channels=8)])
        >>> layer(torch.randn(2, 8, 4, 4)).shape
        torch.Size([2, 8, 4, 4])
    """

    Settings = PartialGraphSettings

    def __init__(self, settings: PartialGraphSettings | None = None, /, **keywords: object) -> None:
        super().__init__(settings, **keywords)
        self.weights = nn.ParameterDict()

    def prepare(self, points: Sequence[FeaturePoint]) -> None:
        """Make the matrix of every place.

        Raises:
            UserError: A place's number of channels is not known.
        """
        for point in points:
            require_channels(self.settings.name, point)
            if key_of_place(point.name) not in self.weights:
                weight = torch.empty(point.channels, point.channels)
                self.weights[key_of_place(point.name)] = nn.Parameter(nn.init.xavier_normal_(weight))

    def forward(self, x: Tensor) -> Tensor:
        """Regularize features [B, C, *spatial] in training mode, and in evaluation where the settings say so."""
        if self.training or not self.settings.inference:
            return super().forward(x)
        with self._same_every_time("", x.device):
            return self._regularize(x, "")

    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        """Replace sampled positions."""
        settings = self.settings
        if settings.alpha == 0:
            return x
        if key_of_place(place) not in self.weights:
            raise UserError(
                "As a layer of your own, partial_graph needs prepare([FeaturePoint('', channels=...)]) first."
            )
        return partial_graph(
            x,
            self.weights[key_of_place(place)],
            settings.alpha,
            sample=settings.sample,
            adjacency=settings.adjacency,
            max_vertices=settings.max_vertices,
            present=self.present,
            generator=generator,
        )

    def _hook(self, point: FeaturePoint) -> Callable[[nn.Module, Any, Tensor], Tensor | None]:
        regularize = super()._hook(point)

        def in_any_mode(module: nn.Module, inputs: Any, features: Tensor) -> Tensor | None:
            if module.training or not self.settings.inference:
                return regularize(module, inputs, features)
            with self._same_every_time(point.name, features.device):
                return self._at(point, features)

        return in_any_mode

    @contextlib.contextmanager
    def _same_every_time(self, place: str, device: torch.device) -> Iterator[None]:
        """Lend a generator to a pass in evaluation, which draws nothing from the training's."""
        kept, self._generator = self._generator, stream(0, "partial graph", place, device=device)
        try:
            yield
        finally:
            self._generator = kept
