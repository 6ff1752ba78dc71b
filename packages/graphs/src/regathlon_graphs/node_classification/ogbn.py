"""Classifying the nodes of a graph in OGB's format, whole or in parts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.rng import SampleDraw, derive_seed
from regathlon_core.task import Batch, Split, evaluating
from regathlon_graphs.graph_classification.ogbg import ogb_root
from regathlon_graphs.models.networks import NodeNetwork
from regathlon_graphs.node_classification.clusters import (
    Adjacency,
    adjacency_of,
    cluster_order,
    sampled_neighbourhood,
    subgraph,
)
from regathlon_graphs.node_classification.inference import by_layers, can_go_by_layers
from regathlon_graphs.node_classification.ogbn_settings import ClusteredSettings, OgbnSettings
from regathlon_graphs.node_classification.task import NodeClassification
from regathlon_graphs.ogb_files.reading import OgbGraphs, read_graphs, read_labels, read_split
from regathlon_graphs.ogb_files.scoring import OgbMetrics
from regathlon_graphs.pyg import Graph
from regathlon_graphs.task import GraphTask

_CACHED_FROM = 5_000_000
"""Edges; what is made of smaller graphs is made again each time."""


class Ogbn(NodeClassification):
    """A graph in OGB's format, all of it in every step, made undirected as in OGB's examples.

    The files lie where ogb has them, ``OGB/ogbn_arxiv/raw/edge.csv.gz`` and so on, or are written by
    ``ogb.io.DatasetSaver``; nothing is downloaded and nobody is asked.

    Args:
        settings: Which graph.
        data: The data root; see ``regathlon_data.data_root``.

    Raises:
        UserError: Files are missing or damaged.
    """

    def __init__(self, settings: OgbnSettings, data: Path | None = None) -> None:
        found, labels, splits = _read(settings, ogb_root(settings.dataset, data) / settings.folder)
        pairs = np.array(found.edge_index, dtype=np.int64)
        pairs = pairs[:, pairs[0] != pairs[1]]
        keys = np.unique(np.concatenate([pairs, pairs[::-1]], axis=1).T @ np.array([len(labels), 1]))
        edges = torch.from_numpy(np.stack([keys // len(labels), keys % len(labels)]))
        graph = Graph(x=torch.from_numpy(np.array(found.node_feat, np.float32)), edge_index=edges, y=labels)
        super().__init__(settings, _classes(settings), graph, splits)

    def metrics(self) -> OgbMetrics:
        """Return OGB's score."""
        return OgbMetrics("node", "acc", 1, self.ignore_index)


class Clustered(GraphTask):
    """A graph in OGB's format of which a step sees a few clusters, or nodes with drawn neighbours.

    Nodes, edges and features stay on disk and are mapped into memory, so what a trial needs grows with the step, not with
    the graph. What is made of the raw files is kept beside them, complete or not at all.

    With clusters, a sample of a split is a cluster that holds nodes of it; else a node. A batch's targets are the labels of
    the split's nodes, and ``ignore_index`` elsewhere. A GraphSAGE is evaluated on the whole graph, layer by layer, as in
    OGB's examples; other models on the parts that they are trained on.

    Args:
        settings: Which graph, and how it is read.
        data: The data root; see ``regathlon_data.data_root``.

    Raises:
        UserError: Files are missing or damaged, or there are more clusters than nodes.
    """

    def __init__(self, settings: ClusteredSettings, data: Path | None = None) -> None:
        super().__init__(settings)
        folder = ogb_root(settings.dataset, data) / settings.folder
        found, self._labels, self._splits = _read(settings, folder)
        if settings.loading == "clusters" and settings.clusters > len(self._labels):
            raise UserError(
                f"{settings.name}: {settings.clusters} clusters are more than the graph's {len(self._labels)} nodes. Set "
                f"clusters to less.",
                where=str(folder),
            )
        assert found.node_feat is not None  # else it had been refused
        self.loading, self._features = settings.loading, found.node_feat
        self.adjacency, self._order = _prepared(found, folder, settings)
        self._part_of = {
            split: torch.zeros(len(self._labels), dtype=torch.bool).index_fill_(0, nodes, True)
            for split, nodes in self._splits.items()
        }
        pieces = np.array_split(np.arange(len(self._order)), settings.clusters)
        self._begins = np.array([0, *(piece[-1] + 1 for piece in pieces if len(piece))])
        self._holding: dict[Split, NDArray[np.int64]] = {}
        for split, inside in self._part_of.items():
            held = np.add.reduceat(inside.numpy()[self._order].astype(np.int64), self._begins[:-1])
            self._holding[split] = np.flatnonzero(held)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return _classes(self.settings)  # type: ignore[arg-type]

    @property
    def in_channels(self) -> int:
        """Features of a node."""
        channels: int = self._features.shape[1]
        return channels

    def metrics(self) -> OgbMetrics:
        """Return OGB's score."""
        return OgbMetrics("node", "acc", 1, self.ignore_index)

    def size(self, split: Split) -> int:
        """Return the number of clusters that hold nodes of a split, or of its nodes."""
        if split not in self._splits:
            return 0
        return len(self._holding[split]) if self.loading == "clusters" else len(self._splits[split])

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        """Return clusters with all edges among their nodes, or nodes with drawn neighbours."""
        if self.loading == "clusters":
            chosen = self._holding[split][index.numpy()]
            parts = [self._order[self._begins[c] : self._begins[c + 1]] for c in chosen.tolist()]
            nodes = np.concatenate(parts)
            edges = subgraph(self.adjacency, nodes)
            asked = self._part_of[split][nodes]
        else:
            seeds = self._splits[split][index].numpy()
            drawn = (draw.seed, "neighbours", draw.epoch) if draw is not None else (0, "neighbours")
            rng = np.random.default_rng(derive_seed(*drawn, int(index[0])))
            fanouts: tuple[int, ...] = self.settings.fanouts  # type: ignore[attr-defined]
            nodes, edges = sampled_neighbourhood(self.adjacency, seeds, fanouts, rng)
            asked = torch.arange(len(nodes)) < len(seeds)
        graph = Graph(x=torch.from_numpy(self._features[nodes]), edge_index=torch.from_numpy(edges))
        return Batch(graph, self._labels[nodes].masked_fill(~asked, self.ignore_index), index=index)

    def evaluation_order(self, split: Split, batch_size: int) -> list[Tensor]:
        """Return every sample of a split once, 32 clusters or so many nodes at a time."""
        return super().evaluation_order(split, 32 if self.loading == "clusters" else batch_size)

    def evaluate_splits(
        self, model: nn.Module, splits: Sequence[Split], *, device: torch.device | str = "cpu"
    ) -> Mapping[Split, Mapping[str, float]]:
        """Return the metrics on several splits: of all neighbours where the model can go layer by layer, else of parts."""
        if not (isinstance(model, NodeNetwork) and can_go_by_layers(model)):
            return super().evaluate_splits(model, splits, device=device)
        with evaluating(model):
            logits = by_layers(model, self.adjacency, torch.from_numpy(self._features), device)
        found: dict[Split, Mapping[str, float]] = {}
        for split in splits:
            if self.size(split):
                nodes, metrics = self._splits[split], self.metrics()
                metrics.update(logits[nodes], Batch(None, self._labels[nodes]))
                found[split] = metrics.compute()
        return found


def _classes(settings: OgbnSettings) -> tuple[str, ...]:
    return tuple(f"class {number}" for number in range(settings.outputs))


def _read(settings: OgbnSettings, folder: Path) -> tuple[OgbGraphs, Tensor, dict[Split, Tensor]]:
    found = read_graphs(folder)
    if len(found.nodes) != 1:
        raise UserError(f"There are {len(found.nodes)} graphs, not one.", where=str(folder))
    if found.node_feat is None:
        raise UserError("The nodes have no features.", where=str(folder / "raw"))
    labels = read_labels(folder)
    if len(labels) != int(found.nodes[0]):
        raise UserError(f"There are {int(found.nodes[0])} nodes and {len(labels)} labels.", where=str(folder))
    known = labels[:, 0][~np.isnan(labels[:, 0])]
    if len(known) and not 0 <= known.min() <= known.max() < settings.outputs:
        raise UserError(f"A label is no class of 0 to {settings.outputs - 1}.", where=str(folder))
    targets = torch.from_numpy(np.nan_to_num(labels[:, 0].astype(np.float64), nan=-100).astype(np.int64))
    return found, targets, read_split(folder, settings.split_name, len(labels))  # type: ignore[return-value]


def _prepared(
    found: OgbGraphs, folder: Path, settings: ClusteredSettings
) -> tuple[Adjacency, NDArray[np.int64]]:
    """Return the adjacency, and the nodes cluster by cluster."""
    nodes, edges = int(found.nodes[0]), found.edge_index.shape[1]
    rng = np.random.default_rng(derive_seed(0, "clusters", settings.clusters))
    if edges < _CACHED_FROM:
        adjacency = adjacency_of(found.edge_index, nodes)
        return adjacency, _cells(adjacency, settings, rng)
    cache = folder / f"regathlon-clusters-{settings.clusters}-1"
    # The stamp of what it was made from; read_graphs makes that anew where the raw files change.
    stamp = json.dumps([nodes, edges, (folder / "regathlon-1" / "source.json").read_text()])
    if not (cache / "stamp.json").exists() or (cache / "stamp.json").read_text() != stamp:
        partial = cache.with_name(f"{cache.name}.{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            into = np.lib.format.open_memmap(
                partial / "columns.npy", mode="w+", dtype=np.int32, shape=(2 * edges,)
            )
            adjacency = adjacency_of(found.edge_index, nodes, into)
            into.flush()
            np.save(partial / "begins.npy", adjacency.begins)
            np.save(partial / "order.npy", _cells(adjacency, settings, rng))
            (partial / "stamp.json").write_text(stamp)
            shutil.rmtree(cache, ignore_errors=True)
            partial.rename(cache)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    begins, order = np.load(cache / "begins.npy"), np.load(cache / "order.npy")
    return Adjacency(begins, np.load(cache / "columns.npy", mmap_mode="c")), order


def _cells(adjacency: Adjacency, settings: ClusteredSettings, rng: np.random.Generator) -> NDArray[np.int64]:
    if settings.loading == "clusters":
        return cluster_order(adjacency, settings.clusters, rng)
    return np.arange(len(adjacency.begins) - 1)
