"""Many graphs in one, and any of them together in a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regathlon_graphs.propagation import (
    ConstantPart,
    Normalization,
    SparseMatrix,
    normalized_adjacency,
    ranges,
)
from regathlon_graphs.pyg import Graph


class Collected:
    """Graphs one after another in a few large tensors, from which a batch is gathered at once.

    torch-geometric makes a batch by going through the graphs one by one; on hundreds of small graphs that takes longer than
    the training step.

    Args:
        graphs: With ``x`` [N, F] and ``edge_index`` [2, E]; and ``edge_attr`` [E, D], all of them or none.

    Example:
        >>> path = Graph(x=torch.ones(3, 2), edge_index=torch.tensor([[0, 1], [1, 2]]))
        >>> point = Graph(x=torch.zeros(1, 2), edge_index=torch.zeros(2, 0, dtype=torch.int64))
        >>> batch = Collected([path, point]).together(torch.tensor([1, 0]))
        >>> batch.edge_index.tolist(), batch.batch.tolist(), batch.num_graphs
        ([[1, 2], [2, 3]], [0, 1, 1, 1], 2)
    """

    def __init__(self, graphs: Sequence[Graph]) -> None:
        attributed = graphs[0].edge_attr is not None
        self._take(
            torch.cat([graph.x for graph in graphs]),
            torch.cat([graph.edge_index for graph in graphs], dim=1),
            torch.cat([graph.edge_attr for graph in graphs]) if attributed else None,
            torch.tensor([len(graph.x) for graph in graphs]),
            torch.tensor([graph.edge_index.shape[1] for graph in graphs]),
        )

    @classmethod
    def joined(
        cls, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None, nodes: Tensor, edges: Tensor
    ) -> Collected:
        """Return graphs that lie one after another already.

        Args:
            x: [N, F].
            edge_index: Nodes counted from the first of their graph, int64 [2, E].
            edge_attr: [E, D], or None.
            nodes: Of each graph, int64 [G].
            edges: Of each graph, int64 [G].
        """
        made = cls.__new__(cls)
        made._take(x, edge_index, edge_attr, nodes, edges)
        return made

    def _take(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None, nodes: Tensor, edges: Tensor
    ) -> None:
        self.x, self.edge_index, self.edge_attr, self.nodes, self.edges = (
            x,
            edge_index,
            edge_attr,
            nodes,
            edges,
        )
        self._first_node, self._first_edge = _begins(nodes), _begins(edges)
        self._adjacencies: dict[str, SparseMatrix] = {}

    def together(self, chosen: Tensor) -> Graph:
        """Return graphs in one.

        Args:
            chosen: Which, int64 [B]; a graph may be there twice.

        Returns:
            A graph whose ``batch`` [N] is each node's place in ``chosen``, ``ptr`` [B + 1] where each graph's nodes begin,
            and ``num_graphs`` B.
        """
        firsts, nodes, edges = self._first_node[chosen], self.nodes[chosen], self.edges[chosen]
        begins = _begins(nodes)
        rows, columns = ranges(firsts, nodes), ranges(self._first_edge[chosen], edges)
        graph = Graph(
            x=self.x.index_select(0, rows),  # several times faster than x[rows]
            edge_index=self.edge_index.index_select(1, columns) + begins.repeat_interleave(edges),
            edge_attr=self.edge_attr.index_select(0, columns) if self.edge_attr is not None else None,
            batch=torch.arange(len(chosen)).repeat_interleave(nodes),
            ptr=torch.cat([begins, nodes.sum()[None]]),
            num_graphs=len(chosen),
        )
        graph.constant = ConstantPart(graph, self._adjacency, firsts, nodes)
        return graph

    def _adjacency(self, normalization: Normalization) -> SparseMatrix:
        """Return the adjacency of all graphs, made when it is first asked for."""
        if normalization not in self._adjacencies:
            edges = self.edge_index + self._first_node.repeat_interleave(self.edges)
            dtype = torch.promote_types(self.x.dtype, torch.float32)
            self._adjacencies[normalization] = normalized_adjacency(edges, len(self.x), normalization, dtype)
        return self._adjacencies[normalization]


def _begins(counts: Tensor) -> Tensor:
    return counts.cumsum(0) - counts
