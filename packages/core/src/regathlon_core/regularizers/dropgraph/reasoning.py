"""Graph reasoning: the adjacency of vertices, and the convolutions that make distortions of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import relu

from regathlon_core.errors import UserError
from regathlon_core.regularizers.dropgraph.settings import Adjacency

# What the squared difference of two graphs' numbers takes off a product: more than any product leaves in a softmax.
_FAR = 1e30


def vertex_adjacency(
    vertices: Tensor,
    kind: Adjacency = "dissimilarity",
    temperature: float = 0.0,
    graph: Tensor | None = None,
    *,
    learned: Tensor | None = None,
) -> Tensor:
    """Return the weights of the edges between vertices.

    ``"dissimilarity"`` is Eq. 6 of the paper, A = (1 - softmax(V Vᵀ / T)) / (K - 1): rows sum to 1, and
    unlike vertices weigh more. A single vertex has no other: A = 0.

    Args:
        vertices: [B, K, C], float32 or float64.
        kind: Which design (Table 6).
        temperature: T; 0 for C, without which products of many channels saturate the softmax.
        graph: Which of its row's graphs each vertex belongs to, numbers of any dtype [B, K]; vertices of different graphs
            are not joined. None for one graph a row.
        learned: For ``"learned"``: the weights, [L, L]; a graph of k vertices takes the first k rows and columns.

    Returns:
        [B, K, K].

    Raises:
        UserError: ``"learned"`` has no weights, or too few.

    Example:
        >>> [round(row, 4) for row in vertex_adjacency(torch.ones(1, 3, 4)).sum(dim=2)[0].tolist()]
        [1.0, 1.0, 1.0]
        >>> vertex_adjacency(torch.ones(1, 3, 4), graph=torch.tensor([[0, 0, 1]]))[0].tolist()
        [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    """
    if kind == "dissimilarity":
        edges, scale, _ = _dissimilarity(vertices, temperature, graph)
        return edges * scale
    apart = _apart(vertices, graph)
    if kind == "similarity":
        return _similarity(vertices, temperature, apart)
    joined = _joined(vertices, apart)
    if kind == "uniform":
        return joined / joined.sum(dim=2, keepdim=True)
    if kind == "identity":
        return torch.eye(vertices.shape[1], dtype=vertices.dtype, device=vertices.device) * joined
    size = int(joined.sum(dim=2).max())
    if learned is None or len(learned) < size:
        raise UserError(f"A learned adjacency needs a weight for every pair of the {size} vertices.")
    rank = joined.tril(-1).sum(dim=2).long()
    return learned.to(vertices.dtype)[rank[:, :, None], rank[:, None, :]] * joined


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
    return (adjacency @ _hidden(vertices, adjacency, w1, w2)) @ w3


def shared_reasoning(
    vertices: Tensor,
    w1: Tensor,
    w2: Tensor,
    share: Tensor,
    kind: Adjacency = "dissimilarity",
    temperature: float = 0.0,
    graph: Tensor | None = None,
    *,
    learned: Tensor | None = None,
) -> Tensor:
    """Return what each vertex adds to a weighted sum of all rows of A H2.

    Their sum over a graph's vertices, times W3, is the weighted sum of the rows of R, at a Kth of the cost of the last
    convolution.

    Args:
        vertices: V, [B, K, C].
        w1: [C, C/r].
        w2: [C/r, C/r].
        share: Weights of the rows in the sum, [B, K].
        kind: How A is made; see ``vertex_adjacency`` for this and what follows.
        temperature: T; 0 for C.
        graph: Which of its row's graphs each vertex belongs to, [B, K]; None for one graph a row.
        learned: For ``"learned"``: the weights, [L, L].

    Returns:
        [B, C/r, K].
    """
    if kind == "dissimilarity":
        made: Tensor = _SharedReasoning.apply(vertices, w1, w2, share, temperature, graph)
        return made
    adjacency = vertex_adjacency(vertices, kind, temperature, graph, learned=learned)
    return _shared(vertices, adjacency, w1, w2, share)


def _hidden(vertices: Tensor, adjacency: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
    hidden = relu(adjacency @ (vertices @ w1))
    return hidden + relu(adjacency @ (hidden @ w2))


def _shared(vertices: Tensor, adjacency: Tensor, w1: Tensor, w2: Tensor, share: Tensor) -> Tensor:
    return _hidden(vertices, adjacency, w1, w2).mT * (share[:, None] @ adjacency)


def _apart(vertices: Tensor, graph: Tensor | None) -> Tensor | None:
    """Return the squared difference of the numbers of vertices' graphs: 0 within a graph, else at least 1."""
    if graph is None:
        return None
    number = graph.to(vertices.dtype)
    return (number[:, :, None] - number[:, None, :]).square_()


def _similarity(vertices: Tensor, temperature: float, apart: Tensor | None) -> Tensor:
    weight = 1 / (temperature or vertices.shape[2])
    if apart is None:
        return (vertices @ vertices.mT * weight).softmax(dim=2)
    return torch.baddbmm(apart, vertices, vertices.mT, beta=-_FAR, alpha=weight).softmax(dim=2)


def _joined(vertices: Tensor, apart: Tensor | None) -> Tensor:
    """Return 1 for vertices of one graph, else 0."""
    if apart is None:
        return vertices.new_ones(len(vertices), vertices.shape[1], vertices.shape[1])
    return (1 - apart).clamp_(min=0)


def _dissimilarity(
    vertices: Tensor, temperature: float, graph: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return 1 - softmax(V Vᵀ / T) within graphs, [B, K, K]; 1 / (K - 1), [B, K, 1]; and the softmax."""
    apart = _apart(vertices, graph)
    similarity = _similarity(vertices, temperature, apart)
    joined = _joined(vertices, apart)
    # Of a single vertex the softmax is 1: nothing is left to divide.
    scale = (joined.sum(dim=2, keepdim=True) - 1).clamp_(min=1).reciprocal_()
    return joined - similarity, scale, similarity


class _SharedReasoning(torch.autograd.Function):
    """``_shared`` with the dissimilarity, channels first and with a gradient by hand.

    The quadratic matrices cost most; this makes six of them forwards and four backwards, where the operations one by one
    make some forty. Products with few channels are several times faster with the channels as rows.
    """

    @staticmethod
    def forward(
        ctx: Any,
        vertices: Tensor,
        w1: Tensor,
        w2: Tensor,
        share: Tensor,
        temperature: float,
        graph: Tensor | None,
    ) -> Tensor:
        edges, scale, similarity = _dissimilarity(vertices, temperature, graph)
        scale = scale.mT  # A is edges with its rows scaled
        reduced = w1.mT @ vertices.mT
        first = (reduced @ edges.mT).mul_(scale).relu_()
        mixed = w2.mT @ first
        second = (mixed @ edges.mT).mul_(scale).relu_()
        rows = share[:, None] * scale
        weights = rows @ edges
        hidden = first + second
        made = edges, scale, similarity, reduced, first, mixed, second, rows, weights, hidden
        ctx.save_for_backward(vertices, w1, w2, share, graph, *made)
        ctx.temperature = temperature
        return hidden * weights

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        vertices, w1, w2, share, graph, *made = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again
            adjacency = vertex_adjacency(vertices, temperature=ctx.temperature, graph=graph)
            again = _shared(vertices, adjacency, w1, w2, share)
            return *torch.autograd.grad(again, (vertices, w1, w2), grad, create_graph=True), None, None, None
        edges, scale, similarity, reduced, first, mixed, second, rows, weights, hidden = made
        with torch.autocast(grad.device.type, enabled=False):
            of_weights = (grad * hidden).sum(dim=1, keepdim=True)
            of_hidden = grad * weights
            of_second = of_hidden * (second > 0) * scale
            of_mixed = of_second @ edges
            of_first = (of_hidden + w2 @ of_mixed) * (first > 0) * scale
            of_reduced = of_first @ edges
            left = torch.cat([rows, of_second, of_first], dim=1)
            of_edges = left.mT @ torch.cat([of_weights, mixed, reduced], dim=1)
            # Of the products' softmax; the similarity is taken off, hence the sign.
            of_products = torch.ops.aten._softmax_backward_data(of_edges, similarity, 2, of_edges.dtype)
            weight = -1 / (ctx.temperature or vertices.shape[2])
            of_vertices = torch.baddbmm(
                w1 @ of_reduced, vertices.mT, of_products + of_products.mT, alpha=weight
            )
            of_w1 = vertices.flatten(0, 1).mT @ of_reduced.mT.flatten(0, 1)
            of_w2 = first.mT.flatten(0, 1).mT @ of_mixed.mT.flatten(0, 1)
        return of_vertices.mT, of_w1, of_w2, None, None, None
