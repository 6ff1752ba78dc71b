"""Random changes of graphs: copies with edges, nodes or features dropped."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from regathlon_graphs.pyg import Graph


def with_parts(graph: Graph, **changes: Tensor) -> Graph:
    """Return a copy with other tensors; those that stay are shared."""
    changed = copy.copy(graph)
    for name, value in changes.items():
        changed[name] = value
    return changed


def drop_edges(graph: Graph, p: float, *, generator: torch.Generator | None = None) -> Graph:
    """Drop edges with probability ``p``, both ways at once.

    Args:
        graph: Undirected: every edge is there both ways.
        p: In [0, 1].
        generator: Source of randomness.
    """
    low, high = graph.edge_index.sort(dim=0).values
    edges, edge_of = torch.unique(low * len(graph.x) + high, return_inverse=True)
    kept = (_uniform(edges.shape, generator, edges.device) >= p)[edge_of]
    changed = with_parts(graph, edge_index=graph.edge_index[:, kept])
    return changed if graph.edge_attr is None else with_parts(changed, edge_attr=graph.edge_attr[kept])


def mask_features(graph: Graph, p: float, *, generator: torch.Generator | None = None) -> Graph:
    """Set entries of the features to zero with probability ``p``."""
    masked = _uniform(graph.x.shape, generator, graph.x.device) < p
    return with_parts(graph, x=graph.x.masked_fill(masked, 0.0))


def drop_nodes(graph: Graph, p: float, *, generator: torch.Generator | None = None) -> Graph:
    """Set all features of nodes to zero with probability ``p`` and divide those of the others by ``1 - p``."""
    kept = _uniform(graph.x.shape[:1], generator, graph.x.device) >= p
    return with_parts(graph, x=graph.x * (kept / (1 - p) if p < 1 else kept)[:, None].to(graph.x.dtype))


def _uniform(size: Sequence[int], generator: torch.Generator | None, device: torch.device) -> Tensor:
    source = generator.device if generator is not None else device
    return torch.rand(tuple(size), generator=generator, device=source).to(device)
