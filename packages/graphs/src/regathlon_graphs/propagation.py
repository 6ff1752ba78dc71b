"""Sums over the neighbours of every node, and what is worth computing once of a graph that stays the same."""

from __future__ import annotations

from collections.abc import Callable
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
    """A constant matrix, stored by rows and, once a gradient asks for it, by columns too.

    Products run through ``embedding_bag``, several times faster than a gather and a scatter, and in a fixed order: the same
    bits every time, on a CPU and on CUDA. ``sparse_matrix`` makes one of entries in any order.

    Args:
        begins: Where each row's entries begin, and their number at the end, int64 [rows + 1].
        columns: Of each entry, int64 [E].
        values: Of each entry, [E]; several of one place add up.
        width: Number of columns.
        transpose: Makes the transposed matrix.
    """

    def __init__(
        self,
        begins: Tensor,
        columns: Tensor,
        values: Tensor,
        width: int,
        transpose: Callable[[], SparseMatrix],
    ) -> None:
        small = max(len(columns), width) < 2**31  # half the memory to read
        self.columns, self.begins = (columns.int(), begins.int()) if small else (columns, begins)
        self.values, self.width = values, width
        self._transpose = transpose
        self._transposed: SparseMatrix | None = None
        self._cast: dict[torch.dtype, Tensor] = {}

    @property
    def transposed(self) -> SparseMatrix:
        """The matrix with rows for columns."""
        if self._transposed is None:
            self._transposed = self._transpose()
        return self._transposed

    def __matmul__(self, dense: Tensor) -> Tensor:
        """Return the product with a dense matrix [columns, C], differentiable in it: [rows, C]."""
        product: Tensor = _Product.apply(dense, self)
        return product

    def multiply(self, dense: Tensor) -> Tensor:
        """Return the product without a gradient."""
        if not len(self.values):
            return dense.new_zeros(len(self.begins) - 1, dense.shape[1])
        values = self._cast.setdefault(dense.dtype, self.values.to(dense.dtype))
        return F.embedding_bag(
            self.columns,
            dense.contiguous(),
            self.begins,
            mode="sum",
            per_sample_weights=values,
            include_last_offset=True,
        )

    def diagonal_blocks(self, firsts: Tensor, sizes: Tensor) -> SparseMatrix:
        """Return some of the blocks of a block-diagonal matrix, one after another.

        Args:
            firsts: First row and column of each block, int64 [B].
            sizes: Rows and columns of each, int64 [B].
        """
        begin_of, end_of = self.begins[firsts], self.begins[firsts + sizes]
        entries = end_of - begin_of
        picked = ranges(begin_of, entries)
        shifts = (sizes.cumsum(0) - sizes - firsts).repeat_interleave(entries)
        rows = ranges(firsts, sizes)
        counts = self.begins.diff().index_select(0, rows)
        begins = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return SparseMatrix(
            begins,
            self.columns.index_select(0, picked) + shifts.int(),
            self.values.index_select(0, picked),
            len(rows),
            lambda: self.transposed.diagonal_blocks(firsts, sizes),
        )


def sparse_matrix(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> SparseMatrix:
    """Return a sparse matrix of entries in any order.

    Args:
        rows: int64 [E].
        columns: int64 [E].
        values: [E]; several of one place add up.
        shape: Rows and columns.

    Example:
        >>> matrix = sparse_matrix(torch.tensor([2, 0, 0]), torch.tensor([1, 0, 1]), torch.ones(3), (3, 2))
        >>> (matrix @ torch.tensor([[1.0], [10.0]])).flatten().tolist()
        [11.0, 0.0, 10.0]
    """
    order = rows.argsort(stable=True)
    counts = torch.bincount(rows, minlength=shape[0])
    return SparseMatrix(
        torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
        columns[order],
        values[order],
        shape[1],
        lambda: sparse_matrix(columns, rows, values, (shape[1], shape[0])),
    )


def ranges(firsts: Tensor, sizes: Tensor) -> Tensor:
    """Return first, first + 1, ... for every range, one after another.

    Example:
        >>> ranges(torch.tensor([7, 2]), torch.tensor([3, 2])).tolist()
        [7, 8, 9, 2, 3]
    """
    shifts = (firsts - (sizes.cumsum(0) - sizes)).repeat_interleave(sizes)
    return shifts + torch.arange(len(shifts), device=shifts.device)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: SparseMatrix) -> Tensor:
        ctx.matrix = matrix
        return matrix.multiply(dense)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
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
            self._features = sparse_matrix(rows, columns, graph.x[rows, columns], graph.x.shape)
        self._adjacencies: dict[str, SparseMatrix] = {}

    def features(self, x: Tensor) -> SparseMatrix | None:
        """Return features as a sparse matrix, where they are this graph's and mostly zero."""
        return self._features if x is self._x and not x.requires_grad else None

    def adjacency(self, edges: Tensor, normalization: Normalization) -> SparseMatrix | None:
        """Return the normalised adjacency, where these are this graph's edges."""
        if edges is not self._edges:
            return None
        if normalization not in self._adjacencies:
            self._adjacencies[normalization] = self._adjacency(normalization)
        return self._adjacencies[normalization]

    def _adjacency(self, normalization: Normalization) -> SparseMatrix:
        dtype = torch.promote_types(self._x.dtype, torch.float32)
        return normalized_adjacency(self._edges, len(self._x), normalization, dtype)


class ConstantPart(Constant):
    """The same of several graphs in one batch, cut from the adjacencies of all graphs of a collection.

    Args:
        graph: The batch.
        adjacency: Makes the adjacency of all graphs, block by block.
        firsts: First node of each chosen graph, int64 [B].
        sizes: Nodes of each, int64 [B].
    """

    def __init__(
        self, graph: Graph, adjacency: Callable[[Normalization], SparseMatrix], firsts: Tensor, sizes: Tensor
    ) -> None:
        self._x, self._edges, self._features = graph.x, graph.edge_index, None
        self._whole, self._firsts, self._sizes = adjacency, firsts, sizes
        self._adjacencies = {}

    def _adjacency(self, normalization: Normalization) -> SparseMatrix:
        return self._whole(normalization).diagonal_blocks(self._firsts, self._sizes)


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


def normalized_adjacency(
    edges: Tensor, nodes: int, normalization: Normalization, dtype: torch.dtype = torch.float32
) -> SparseMatrix:
    """Return ``normalized_edges`` as a matrix whose rows are the nodes that sum, [nodes, nodes]."""
    (sources, targets), weight = normalized_edges(edges, nodes, normalization, dtype)
    return sparse_matrix(targets, sources, weight, (nodes, nodes))


def drop_messages(graph: Graph, messages: Tensor) -> Tensor:
    """Return messages [E, C] after what a regularizer put in ``graph.message_dropout``, if it did."""
    drop: Callable[[Tensor], Tensor] | None = getattr(graph, "message_dropout", None)
    return messages if drop is None else drop(messages)


class Propagation:
    """Weighted sums over neighbours in one pass of a model.

    Args:
        graph: With ``x`` and ``edge_index``.
        normalization: Of the adjacency, with loops.
    """

    def __init__(self, graph: Graph, normalization: Normalization = "symmetric") -> None:
        self.edge_index: Tensor = graph.edge_index
        self._constant: Constant | None = getattr(graph, "constant", None)
        if getattr(graph, "message_dropout", None) is not None:
            self._constant = None  # messages are to be seen one by one
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
        messages = drop_messages(self._graph, x.index_select(0, sources) * weight.to(x.dtype)[:, None])
        return torch.zeros_like(x).index_add(0, targets, messages)

    def linear(self, x: Tensor, layer: torch.nn.Linear) -> Tensor:
        """Return ``layer(x)``, by way of sparse features where they are known."""
        features = self._constant.features(x) if self._constant is not None else None
        if features is None:
            plain: Tensor = layer(x)
            return plain
        out = features @ layer.weight.T
        return out if layer.bias is None else out + layer.bias


def _autocasts(x: Tensor) -> bool:
    return torch.is_autocast_enabled(x.device.type)
