"""Partial graph reasoning as a pure function."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.regularizers.dropgraph.functional import cast_within, sample_vertices
from regathlon_core.regularizers.dropgraph.reasoning import vertex_adjacency
from regathlon_core.regularizers.dropgraph.settings import Adjacency
from regathlon_core.regularizers.partial_graph.settings import Sample


def partial_graph(
    x: Tensor,
    weight: Tensor,
    alpha: float = 0.25,
    *,
    sample: Sample = "random",
    adjacency: Adjacency = "dissimilarity",
    max_vertices: int = 1024,
    present: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Replace sampled feature vectors V by A V W (Eq. 4 of Xiang et al., arXiv:2106.01805).

    Args:
        x: [B, C, *spatial], any floating dtype.
        weight: W, [C, C].
        alpha: Share of positions that are sampled, in [0, 1].
        sample: ``"random"`` positions, or the ``"top"`` ones by the sum of their absolute activations.
        adjacency: How A is made of V, see ``vertex_adjacency``.
        max_vertices: Most positions of a sample.
        present: Which positions are there, bool [B, N]; None for all.
        generator: Source of randomness.

    Returns:
        Like ``x``; ``x`` itself where ``alpha`` is 0.

    Example:
        >>> x = torch.randn(2, 4, 5, 5)
        >>> changed = (partial_graph(x, torch.eye(4), 0.2) != x).any(dim=1)
        >>> changed.flatten(1).sum(dim=1)
        tensor([5, 5])
    """
    if alpha == 0:
        return x
    flat = x.flatten(2)
    index, valid = sample_vertices(
        len(x),
        flat.shape[2],
        alpha,
        limit=max_vertices,
        present=present,
        scores=flat.detach().abs().sum(dim=1, dtype=torch.float32) if sample == "top" else None,
        generator=generator,
        device=x.device,
    )
    over_channels = index[:, None].expand(-1, x.shape[1], -1)
    vertices = flat.gather(2, over_channels).mT
    vertices = vertices if x.dtype == torch.float64 else vertices.float()
    with torch.autocast(x.device.type, enabled=False):
        edges = vertex_adjacency(vertices, adjacency, graph=valid)
        reasoned = cast_within(edges @ (vertices @ weight.to(vertices.dtype)), x.dtype).mT
    if valid is not None:  # of a smaller graph, what fills its vertices up stays as it is
        reasoned = torch.where(valid[:, None], reasoned, flat.gather(2, over_channels))
    return flat.scatter(2, over_channels, reasoned).view_as(x)
