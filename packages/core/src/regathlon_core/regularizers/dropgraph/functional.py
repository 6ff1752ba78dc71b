"""DropGraph's graph branch: sampled vertices, their adjacency, and the reasoning that makes distortions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from regathlon_core.regularizers.dropgraph.settings import Adjacency

SCHEDULES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "constant": lambda t: 1.0,
        "linear": lambda t: t,
        "cubic": lambda t: t**3,
        "logistic": lambda t: (_logistic(t) - _logistic(0.0)) / (_logistic(1.0) - _logistic(0.0)),
        "cosine": lambda t: (1 - math.cos(math.pi * t)) / 2,
        "cubic_out": lambda t: 1 - (1 - t) ** 3,
    }
)
"""Share of the full probability at a share t of the budget, from 0 at t=0 to 1 at t=1 (but for ``"constant"``)."""


def _logistic(t: float) -> float:
    return 1 / (1 + math.exp(-10 * (t - 0.5)))


def sample_vertices(
    batch: int,
    positions: int,
    alpha: float,
    *,
    limit: int = 1024,
    present: Tensor | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor | None]:
    """Draw max(1, round(alpha · positions)) distinct positions of every sample, uniformly.

    Args:
        batch: B.
        positions: N, of the largest sample.
        alpha: Share of positions that become vertices, in (0, 1].
        limit: Most vertices of a sample.
        present: Which positions a sample has, bool [B, N]; None for all. Every sample has at least one.
        generator: Source of randomness.
        device: Where to draw.

    Returns:
        Positions, int64 [B, K], and which of the K are vertices of their sample, bool [B, K], or None for
        all.
    """
    order = torch.rand(batch, positions, generator=generator, device=device)
    if present is None:
        count = min(max(1, round(alpha * positions)), limit)
        return order.topk(count, dim=1).indices, None
    counts = (alpha * present.sum(dim=1)).round().clamp(1, limit)
    index = order.masked_fill(~present, -1.0).topk(int(counts.max()), dim=1).indices
    return index, torch.arange(index.shape[1], device=index.device) < counts[:, None]


def vertex_adjacency(
    vertices: Tensor, kind: Adjacency = "dissimilarity", temperature: float = 0.0, valid: Tensor | None = None
) -> Tensor:
    """Return the weights of the edges between vertices.

    ``"dissimilarity"`` is Eq. 6 of the paper, A = (1 - softmax(V Vᵀ / T)) / (K - 1): rows sum to 1, and
    unlike vertices weigh more. A single vertex has no other: A = 0.

    Args:
        vertices: [B, K, C], float32 or float64.
        kind: Which design (Table 6).
        temperature: T; 0 for C, without which products of many channels saturate the softmax.
        valid: Which vertices are there, bool [B, K]; None for all. Rows and columns of the others are 0.

    Returns:
        [B, K, K].

    Example:
        >>> [round(row, 4) for row in vertex_adjacency(torch.ones(1, 3, 4)).sum(dim=2)[0].tolist()]
        [1.0, 1.0, 1.0]
    """
    if valid is None:
        valid = torch.ones(vertices.shape[:2], dtype=torch.bool, device=vertices.device)
    pairs = valid[:, :, None] & valid[:, None, :]
    count = valid.sum(dim=1)[:, None, None]
    if kind == "identity":
        return torch.eye(vertices.shape[1], dtype=vertices.dtype, device=vertices.device) * pairs
    if kind == "uniform":
        return pairs / count.to(vertices.dtype)
    products = vertices @ vertices.mT / (temperature or vertices.shape[2])
    similarity = products.masked_fill(~valid[:, None, :], -torch.inf).softmax(dim=2)
    if kind == "similarity":
        return similarity * pairs
    return (1 - similarity) / (count - 1).clamp(min=1) * (pairs & (count > 1))


def graph_reasoning(vertices: Tensor, adjacency: Tensor, w1: Tensor, w2: Tensor, w3: Tensor) -> Tensor:
    """Return each vertex's distortion: two bottlenecks around a residual graph convolution, one shared adjacency.

    H1 = relu(A V W1), H2 = H1 + relu(A H1 W2), R = A H2 W3. There are no biases and no outer residual: A = 0
    must give R = 0, which makes DropGraph DropBlock.

    Args:
        vertices: V, [B, K, C].
        adjacency: A, [B, K, K].
        w1: [C, C/r].
        w2: [C/r, C/r].
        w3: [C/r, C].

    Returns:
        R, [B, K, C].
    """
    hidden = F.relu(adjacency @ (vertices @ w1))
    hidden = hidden + F.relu(adjacency @ (hidden @ w2))
    return adjacency @ (hidden @ w3)
