"""Graphs of unequal sizes side by side in rows of equal length, as sequences are packed for language models."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regathlon_core.features import groups_of_sizes

# What sizes are rounded up to in rows that graphs share; the last is a row's length.
_SHARED = (0, 1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Packing:
    """Where the items of graphs lie, in blocks of rows of one length each.

    Attributes:
        item: Which item lies at each place of all blocks, int64 [P]; 0 where there is none.
        graph: The graph of each place, int64 [P]; -1 where there is none.
        shapes: Rows and length of each block, P places in all.
    """

    item: Tensor
    graph: Tensor
    shapes: tuple[tuple[int, int], ...]

    def blocks(self, values: Tensor) -> list[Tensor]:
        """Return values of all places, [P, ...], as those of each block, [rows, length, ...]."""
        parts = torch.split(values, [rows * length for rows, length in self.shapes])
        return [part.view(*shape, *values.shape[1:]) for part, shape in zip(parts, self.shapes, strict=True)]


def pack_graphs(counts: Tensor) -> Packing:
    """Lay graphs in rows, none of them split.

    Graphs of up to 32 items share rows of 32; larger ones have a row each, in blocks of graphs of like sizes. So the
    matrices of all pairs in a row are few, and not much larger than those of the graphs.

    Args:
        counts: Items of each graph, int64 [B]; the items of all follow each other.

    Example:
        >>> packing = pack_graphs(torch.tensor([2, 40, 0, 1]))
        >>> packing.shapes
        ((1, 32), (1, 40))
        >>> packing.item[:4].tolist(), packing.graph[:4].tolist()
        ([0, 1, 42, 0], [0, 0, 3, -1])
    """
    steps = torch.tensor(_SHARED, device=counts.device)
    large = counts // (_SHARED[-1] + 1)  # from 1 on where a row is too short
    # Rounded up to powers of two and laid from the largest to the smallest, none reaches over the end of a row.
    rounded = steps[torch.bucketize(counts * (large == 0), steps)]
    order = rounded.argsort(descending=True, stable=True)
    ends = rounded[order].cumsum(0)
    begins = torch.empty_like(ends).index_copy_(0, order, ends - rounded[order])
    shapes = [(-(-int(rounded.sum()) // _SHARED[-1]), _SHARED[-1])]
    places = shapes[0][0] * shapes[0][1]
    for graphs in groups_of_sizes(large):
        length = int(counts[graphs].max())
        begins[graphs] = places + length * torch.arange(len(graphs), device=counts.device)
        shapes.append((len(graphs), length))
        places += len(graphs) * length
    graph_of_item = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    item = torch.arange(len(graph_of_item), device=counts.device)
    place = item + (begins - (counts.cumsum(0) - counts)).index_select(0, graph_of_item)
    return Packing(
        item.new_zeros(places).index_copy_(0, place, item),
        item.new_full((places,), -1).index_copy_(0, place, graph_of_item),
        tuple(shape for shape in shapes if shape[0]),
    )
