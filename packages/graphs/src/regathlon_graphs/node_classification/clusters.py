"""Graphs too large for one step: stored by rows, cut into clusters, and read a few clusters at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EDGES = 8_000_000
"""That are in memory at once."""


@dataclass(frozen=True)
class Adjacency:
    """Neighbours of every node, those of one after those of another.

    Attributes:
        begins: Where each node's begin, and their number at the end, int64 [N + 1].
        columns: Neighbours, int32 [E], both ways; arrays on disk will do.
    """

    begins: NDArray[np.int64]
    columns: NDArray[np.int32]

    def of(self, nodes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return how many neighbours each of some nodes has, int64 [n], and the neighbours, one node's after another's."""
        counts = self.begins[nodes + 1] - self.begins[nodes]
        shifts = np.repeat(self.begins[nodes] - (np.cumsum(counts) - counts), counts)
        return counts, self.columns[shifts + np.arange(len(shifts))]


def adjacency_of(edge_index: NDArray[Any], nodes: int, into: NDArray[np.int32] | None = None) -> Adjacency:
    """Return the adjacency of edges that are listed one way, a part of them in memory at a time; loops are left out.

    Args:
        edge_index: int [2, E].
        nodes: N.
        into: Where to write the columns, int32, at least 2 · E long; None for memory.

    Example:
        >>> sorted(adjacency_of(np.array([[0, 1], [1, 2]]), 3).of(np.array([1]))[1].tolist())
        [0, 2]
    """
    degrees = np.zeros(nodes, np.int64)
    parts = range(0, edge_index.shape[1], _EDGES)
    for begin in parts:
        pairs = _without_loops(edge_index[:, begin : begin + _EDGES])
        for side in pairs:
            degrees += np.bincount(side, minlength=nodes)
    begins = np.concatenate([[0], np.cumsum(degrees)])
    columns = np.empty(begins[-1], np.int32) if into is None else into[: begins[-1]]
    free = begins[:-1].copy()
    for begin in parts:
        one, other = _without_loops(edge_index[:, begin : begin + _EDGES])
        for rows, near in ((one, other), (other, one)):
            order = np.argsort(rows, kind="stable")
            counts = np.bincount(rows, minlength=nodes)
            rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
            columns[free[rows[order]] + rank] = near[order]
            free += counts
    return Adjacency(begins, columns)


def _without_loops(pairs: NDArray[Any]) -> NDArray[Any]:
    kept: NDArray[Any] = np.asarray(pairs)[:, pairs[0] != pairs[1]]
    return kept


def cluster_order(adjacency: Adjacency, clusters: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the nodes in an order that puts near ones together; equal pieces of it are the clusters.

    As many random nodes as there are to be clusters begin a cell each; cells grow along edges, all at once, until every
    node that can be reached is in one. The order goes cell by cell; nodes that no cell reaches come last. So clusters have
    the same size to within one, and most are made of whole cells and parts of cells. This is no METIS, which Cluster-GCN
    uses: it cuts more edges, but it is the same on every machine.

    Args:
        adjacency: Of the graph.
        clusters: How many.
        rng: Source of randomness.
    """
    nodes = len(adjacency.begins) - 1
    cell = np.full(nodes, clusters, np.int32)
    frontier = rng.choice(nodes, clusters, replace=False)
    cell[frontier] = np.arange(clusters)
    while len(frontier):
        reached = []
        mean = max(1, len(adjacency.columns) // max(1, nodes))
        for some in np.array_split(frontier, 1 + len(frontier) * mean // _EDGES):
            counts, near = adjacency.of(some)
            new = cell[near] == clusters
            found, first = np.unique(near[new], return_index=True)
            cell[found] = np.repeat(cell[some], counts)[new][first]
            reached.append(found)
        frontier = np.concatenate(reached).astype(np.int64)
    order: NDArray[np.int64] = np.argsort(cell, kind="stable")
    return order


def subgraph(adjacency: Adjacency, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the edges among some nodes, numbered by their places among them: int64 [2, E']."""
    counts, near = adjacency.of(nodes)
    order = np.argsort(nodes, kind="stable")
    at = np.searchsorted(nodes, near, sorter=order).clip(max=len(nodes) - 1)
    place = order[at]
    inside = nodes[place] == near
    return np.stack([place[inside], np.repeat(np.arange(len(nodes)), counts)[inside]])


def sampled_neighbourhood(
    adjacency: Adjacency, seeds: NDArray[np.int64], fanouts: tuple[int, ...], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw at most so many neighbours of each seed, so many of each of those, and so on.

    Args:
        adjacency: Of the graph.
        seeds: Distinct nodes, int64 [B].
        fanouts: Neighbours of a node at each distance; drawn with replacement where it has more.
        rng: Source of randomness.

    Returns:
        Nodes int64 [n], the seeds first, and edges from neighbour to node, numbered by places among them, int64 [2, e].
    """
    nodes, layer = seeds, seeds
    pairs: list[NDArray[np.int64]] = []
    for fanout in fanouts:
        begins = adjacency.begins[layer]
        counts = adjacency.begins[layer + 1] - begins
        few = layer[counts <= fanout]
        known, near = adjacency.of(few)
        many = counts > fanout
        drawn = (rng.random((int(many.sum()), fanout)) * counts[many, None]).astype(np.int64) + begins[
            many, None
        ]
        sources = np.concatenate([near, adjacency.columns[drawn.ravel()]]).astype(np.int64)
        targets = np.concatenate([np.repeat(few, known), np.repeat(layer[many], fanout)])
        pairs.append(np.unique(np.stack([sources, targets]), axis=1))
        layer = np.setdiff1d(sources, nodes)
        nodes = np.concatenate([nodes, layer])
    edges = np.unique(np.concatenate(pairs, axis=1), axis=1)
    order = np.argsort(nodes)
    return nodes, order[np.searchsorted(nodes, edges, sorter=order)]
