"""Sums over the neighbours of every node, and what is worth computing once of a graph that stays the same."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import has_torch_function

from regathlon_core.errors import unknown
from regathlon_graphs.pyg import Graph

Normalization = Literal["symmetric", "row"]

_SPARSE = 0.1
"""Share of non-zero features below which products with them are sparse."""


class SparseMatrix:
    """A constant matrix, stored by rows and, once a gradient asked for it, by columns too.

    Products run through ``embedding_bag``, several times faster than a gather and a scatter, and in a fixed order: the same
    bits every time, on a CPU and on CUDA.

    Args:
        rows: int64 [E].
        columns: int64 [E].
        values: Entries, [E]; several of one place add up.
        shape: Rows and columns.

    Example:
        >>> matrix = SparseMatrix(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 1]), torch.ones(3), (3, 2))
        >>> (matrix @ torch.tensor([[1.0], [10.0]])).flatten().tolist()
        [11.0, 0.0, 10.0]
    """

    def __init__(self, rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> None:
        order = rows.argsort(stable=True)
        self.columns, self.values = columns[order], values[order]
        counts = torch.bincount(rows, minlength=shape[0])
        self.begins = counts.cumsum(0) - counts
        self.shape = shape
        self._parts = rows, columns, values
        self._transposed: SparseMatrix | None = None
        self._cast: dict[torch.dtype, Tensor] = {}

    @property
    def transposed(self) -> SparseMatrix:
        """The matrix with rows for columns."""
        if self._transposed is None:
            rows, columns, values = self._parts
            self._transposed = SparseMatrix(columns, rows, values, (self.shape[1], self.shape[0]))
            self._transposed._transposed = self
        return self._transposed

    def __matmul__(self, dense: Tensor) -> Tensor:
        """Return the product with a dense matrix [columns, C], differentiable in it: [rows, C]."""
        product: Tensor = _Product.apply(dense, self)  # type: ignore[no-untyped-call]
        return product

    def multiply(self, dense: Tensor) -> Tensor:
        """Return the product without a gradient."""
        if not len(self.values):
            return dense.new_zeros(self.shape[0], dense.shape[1])
        values = self._cast.setdefault(dense.dtype, self.values.to(dense.dtype))
        return F.embedding_bag(
            self.columns, dense.contiguous(), self.begins, mode="sum", per_sample_weights=values
        )


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: SparseMatrix) -> Tensor:
        ctx.matrix = matrix
        return matrix.multiply(dense)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.matrix.transposed @ grad, None


class Constant:
    """What is computed once of a graph that every step sees anew: normalised adjacencies and sparse features.

    Each belongs to the very tensor that it was made of; what a view or a regularizer puts in its place is
    worked on plainly.
    """

    def __init__(self, graph: Graph) -> None:
        self._x, self._edges = graph.x, graph.edge_index
        self._features: SparseMatrix | None = None
        if torch.count_nonzero(graph.x) < _SPARSE * graph.x.numel():
            rows, columns = graph.x.nonzero().T
            self._features = SparseMatrix(rows, columns, graph.x[rows, columns], tuple(graph.x.shape))
        self._adjacencies: dict[str, SparseMatrix] = {}

    def features(self, x: Tensor) -> SparseMatrix | None:
        """Return features as a sparse matrix, where they are this graph's and mostly zero."""
        return self._features if x is self._x and not x.requires_grad else None

    def adjacency(self, edges: Tensor, normalization: Normalization) -> SparseMatrix | None:
        """Return the normalised adjacency, where these are this graph's edges."""
        if edges is not self._edges:
            return None
        if normalization not in self._adjacencies:
            nodes = len(self._x)
            (sources, targets), weight = normalized_edges(edges, nodes, normalization)
            self._adjacencies[normalization] = SparseMatrix(targets, sources, weight, (nodes, nodes))
        return self._adjacencies[normalization]


def constant(graph: Graph) -> Graph:
    """Mark a graph as one that every step sees anew, so that what can be computed of it is computed once.

    Args:
        graph: With ``x`` [N, F] and ``edge_index`` [2, E], which must not be changed in place afterwards.

    Returns:
        The graph, which models of this package then run faster on. On another device it is as any other.
    """
    graph.constant = Constant(graph)
    return graph


def normalized_edges(
    edges: Tensor, nodes: int, normalization: Normalization, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Return edges with one loop at every node, and their weights.

    ``"symmetric"`` divides by the roots of both degrees (Kipf and Welling, ICLR 2017, equation 9), ``"row"`` by the degree of
    the node that sums, as https://github.com/tkipf/pygcn does. Degrees count the loop.

    Args:
        edges: Sources and targets, int64 [2, E].
        nodes: N.
        normalization: Which one.
        dtype: Of the weights.

    Returns:
        int64 [2, E'], and [E'].

    Raises:
        UserError: There is no such normalisation.

    Example:
        >>> _, weight = normalized_edges(torch.tensor([[0, 1], [1, 0]]), 3, "row")
        >>> weight.tolist()
        [0.5, 0.5, 0.5, 0.5, 1.0]
    """
    if normalization not in get_args(Normalization):
        raise unknown("normalization", normalization, get_args(Normalization))
    loops = torch.arange(nodes, device=edges.device).expand(2, -1)
    edges = torch.cat([edges[:, edges[0] != edges[1]], loops], dim=1)
    degrees = torch.bincount(edges[1], minlength=nodes).to(dtype)
    if normalization == "row":
        return edges, (1 / degrees)[edges[1]]
    root = degrees.rsqrt()
    return edges, root[edges[0]] * root[edges[1]]


class Propagation:
    """Weighted sums over neighbours in one pass of a model.

    Args:
        graph: With ``x`` and ``edge_index``.
        normalization: Of the adjacency, with loops.
    """

    def __init__(self, graph: Graph, normalization: Normalization = "symmetric") -> None:
        self.edge_index: Tensor = graph.edge_index
        self._constant: Constant | None = getattr(graph, "constant", None)
        # Whoever intercepts calls (sub-networks, relevance) has rules for plain ones only.
        if self._constant is not None and (has_torch_function((graph.x,)) or _autocasts(graph.x)):
            self._constant = None
        self._graph, self._normalization = graph, normalization
        self._plain: tuple[Tensor, Tensor] | None = None

    def spread(self, x: Tensor) -> Tensor:
        """Return each node's weighted sum of its neighbours and itself, [N, C]."""
        if self._constant is not None:
            matrix = self._constant.adjacency(self.edge_index, self._normalization)
            if matrix is not None:
                return matrix @ x
        if self._plain is None:
            nodes, dtype = len(self._graph.x), self._graph.x.dtype
            self._plain = normalized_edges(self.edge_index, nodes, self._normalization, dtype)
        (sources, targets), weight = self._plain
        messages = x.index_select(0, sources) * weight.to(x.dtype)[:, None]
        return torch.zeros_like(x).index_add(0, targets, messages)

    def linear(self, x: Tensor, layer: torch.nn.Linear) -> Tensor:
        """Return ``layer(x)``, by way of sparse features where they are known."""
        features = self._constant.features(x) if self._constant is not None else None
        if features is None:
            return layer(x)
        out = features @ layer.weight.T
        return out if layer.bias is None else out + layer.bias


def _autocasts(x: Tensor) -> bool:
    return torch.is_autocast_enabled(x.device.type)
