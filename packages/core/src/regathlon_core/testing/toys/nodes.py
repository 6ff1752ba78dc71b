"""One graph whose nodes are to be classified."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from regathlon_core.features import FeaturePoint
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.rng import SampleDraw, stream
from regathlon_core.settings import ModelSettings, TaskSettings
from regathlon_core.task import Batch, Split, Task, View
from regathlon_core.testing.toys.base import ToyTask


@dataclass(frozen=True)
class ToyGraph:
    """A graph.

    Attributes:
        x: Features of the nodes, [N, F].
        adjacency: Symmetrically normalised adjacency with self-loops, dense [N, N].
    """

    x: Tensor
    adjacency: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ToyGraph:
        """Return the graph on a device."""
        return ToyGraph(
            self.x.to(device, non_blocking=non_blocking), self.adjacency.to(device, non_blocking=non_blocking)
        )


@dataclass(frozen=True)
class ToyGcnSettings(ModelSettings):
    """Two graph convolutions."""

    name: ClassVar[str] = "toy_gcn"
    summary: ClassVar[str] = "two dense graph convolutions"
    implementation: ClassVar[str] = "regathlon_core.testing.toys.nodes:build_toy_gcn"
    width: int = 8


@dataclass(frozen=True)
class ToyNodesSettings(TaskSettings):
    """A graph of three communities with noisy features; a third each to train, validate and test."""

    name: ClassVar[str] = "graphs/toy"
    summary: ClassVar[str] = "nodes of three communities"
    implementation: ClassVar[str] = "regathlon_core.testing.toys.nodes:ToyNodes"
    dataset: ClassVar[str] = "toy"
    provides: ClassVar[frozenset[str]] = frozenset(
        {"class_labels", "features", "soft_loss", "views", "occlude"}
    )
    views: ClassVar[tuple[str, ...]] = ("feature_mask",)
    models: ClassVar[tuple[type[ModelSettings], ...]] = (ToyGcnSettings,)
    recipe: ClassVar[Recipe] = Recipe(lr=0.05, batch_size=64, budget=Budget(epochs=20))
    metric: ClassVar[str] = "accuracy"
    nodes: int = 63


class ToyNodes(ToyTask):
    """See ``ToyNodesSettings``. Every batch holds the whole graph, and the labels of its own nodes.

    Example:
        >>> batch = ToyNodes().batch("train", torch.arange(4))
        >>> batch.inputs.x.shape, int((batch.targets >= 0).sum())
        (torch.Size([63, 5]), 4)
    """

    def __init__(self, settings: ToyNodesSettings | None = None, data: object = None) -> None:
        settings = settings if settings is not None else ToyNodesSettings()
        generator = stream(0, "toy nodes")
        self._labels = torch.arange(settings.nodes) % 3
        same = self._labels[:, None] == self._labels
        chance = torch.where(same, 0.3, 0.03)
        edges = torch.rand(settings.nodes, settings.nodes, generator=generator).triu(1) > 1 - chance
        adjacency = (edges | edges.T | torch.eye(settings.nodes, dtype=torch.bool)).float()
        scale = adjacency.sum(1).rsqrt()
        x = torch.randn(settings.nodes, 5, generator=generator)
        x[torch.arange(settings.nodes), self._labels] += 1.0
        self._graph = ToyGraph(x, scale[:, None] * adjacency * scale)
        nodes = torch.randperm(settings.nodes, generator=generator).chunk(3)
        splits: tuple[Split, ...] = ("train", "val", "test")
        super().__init__(settings, {split: (part, part) for split, part in zip(splits, nodes, strict=True)})

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return ("one", "two", "three")

    @property
    def in_channels(self) -> int:
        """Features of a node."""
        return self._graph.x.shape[1]

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        """Return the graph with the labels of these nodes of a split."""
        nodes = self._data[split][0][index]
        targets = torch.full_like(self._labels, self.ignore_index)
        targets[nodes] = self._labels[nodes]
        return Batch(self._graph, targets, index=index)

    def features(self, model: nn.Module) -> Sequence[FeaturePoint]:
        """Return the output of the first layer's block."""
        return [FeaturePoint("block1", channels=model.block1[0].out_features, layout="nodes")]  # type: ignore[union-attr, index]

    def views(self, batch: Batch, generator: torch.Generator, kinds: Sequence[str] = ()) -> Iterator[View]:
        """Yield the graph with a tenth of its nodes' features masked."""
        graph: ToyGraph = batch.inputs
        self.view_kinds(kinds)
        while True:
            kept = torch.rand(graph.x.shape, generator=generator, device=generator.device) >= 0.1
            yield View(batch.replace(inputs=dataclasses.replace(graph, x=graph.x * kept)))

    def occlude(self, batch: Batch, where: Tensor) -> Batch:
        """Set the features of nodes [N] to 0."""
        graph: ToyGraph = batch.inputs
        return batch.replace(inputs=dataclasses.replace(graph, x=graph.x.masked_fill(where[:, None], 0.0)))

    def attributed(self, inputs: ToyGraph) -> Tensor:
        """Return the features of the nodes."""
        return inputs.x


class _ToyGcn(nn.Module):
    def __init__(self, in_channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.block1 = nn.Sequential(nn.Linear(in_channels, width), nn.BatchNorm1d(width), nn.ReLU())
        self.head = nn.Linear(width, classes)

    def forward(self, graph: ToyGraph) -> Tensor:
        out: Tensor = self.head(graph.adjacency @ self.block1(graph.adjacency @ graph.x))
        return out


def build_toy_gcn(settings: ToyGcnSettings, task: Task) -> nn.Module:
    """Build the model."""
    return _ToyGcn(task.in_channels, settings.width, len(task.classes))
