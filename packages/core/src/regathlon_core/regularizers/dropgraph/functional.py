"""What DropGraph does around its graph: schedules, sampling of vertices, and putting distortions in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

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
    scores: Tensor | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor | None]:
    """Draw max(1, round(alpha · positions)) distinct positions of every sample, uniformly or those of highest score.

    Args:
        batch: B.
        positions: N, of the largest sample.
        alpha: Share of positions that become vertices, in (0, 1].
        limit: Most vertices of a sample.
        present: Which positions a sample has, bool [B, N]; None for all. Every sample has at least one.
        scores: Which positions to prefer, at least 0, [B, N]; None for none.
        generator: Source of randomness.
        device: Where to draw.

    Returns:
        Positions, int64 [B, K], and which of the K are vertices of their sample, bool [B, K], or None for
        all.
    """
    order = scores if scores is not None else torch.rand(batch, positions, generator=generator, device=device)
    if present is None:
        count = min(max(1, round(alpha * positions)), limit)
        return order.topk(count, dim=1).indices, None
    counts = (alpha * present.sum(dim=1)).round().clamp(1, limit)
    index = order.masked_fill(~present, -1.0).topk(int(counts.max()), dim=1).indices
    return index, torch.arange(index.shape[1], device=index.device) < counts[:, None]


def sample_graph_vertices(
    graph_of_node: Tensor, alpha: float, *, limit: int = 1024, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draw max(1, round(alpha · nodes)) distinct nodes of every graph that has any, uniformly.

    Args:
        graph_of_node: Graph of each node, int64 [N], rising from 0.
        alpha: Share of nodes that become vertices, in (0, 1].
        limit: Most vertices of a graph.
        generator: Source of randomness.

    Returns:
        Nodes, int64 [V], graph by graph, and how many of each graph, int64 [B].

    Example:
        >>> graph_of_node = torch.tensor([0, 0, 0, 0, 2])
        >>> nodes, counts = sample_graph_vertices(graph_of_node, 0.5, generator=torch.Generator().manual_seed(0))
        >>> counts.tolist(), graph_of_node[nodes].tolist()
        ([2, 0, 1], [0, 0, 2])
    """
    sizes = torch.bincount(graph_of_node)
    counts = torch.minimum((alpha * sizes).round().long().clamp(1, limit), sizes)
    # Single precision would make ties likely in a batch of many nodes.
    drawn = torch.rand(
        len(graph_of_node), generator=generator, device=graph_of_node.device, dtype=torch.float64
    )
    # Those with a graph's least numbers are wanted. Few numbers above this bound can be among them, and what sorting
    # costs is what is left to sort; where the bound proves too low, everything is.
    bound = (counts + 3 * counts.sqrt() + 3) / sizes
    likely = (drawn < bound.index_select(0, graph_of_node)).nonzero()[:, 0]
    graph = graph_of_node.index_select(0, likely)
    found = torch.bincount(graph, minlength=len(sizes))
    if bool((found < counts).any()):
        likely, graph, found = torch.arange(len(drawn), device=drawn.device), graph_of_node, sizes
    order = (drawn.index_select(0, likely) + graph).argsort()  # graph by graph, and so as graph is
    begins = found.cumsum(0) - found
    rank = torch.arange(len(order), device=order.device) - begins.index_select(0, graph)
    chosen = (rank < counts.index_select(0, graph)).nonzero()[:, 0]
    return likely.index_select(0, order.index_select(0, chosen)), counts


def take_positions(x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return features as they are, and some of their positions.

    The gradients of both are added in place: going on with the first result instead of with ``x`` spares two passes over
    the whole map. Nothing but a copy may be made of it, as ``replace_positions`` does.

    Args:
        x: [B, C, N].
        index: Positions of every sample, int64 [B, K].

    Returns:
        ``x``, and [B, K, C].
    """
    kept, taken = _Take.apply(x, index)
    return kept, taken


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.arange(len(index), device=index.device)[:, None]
        return x.view_as(x), x.transpose(1, 2)[rows, index]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
        _, ctx.index = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_taken: Tensor) -> tuple[Tensor, None]:
        rows = grad.transpose(1, 2)
        where = (torch.arange(len(grad), device=grad.device)[:, None], ctx.index)
        put = rows.index_put if torch.is_grad_enabled() else rows.index_put_
        return put(where, grad_taken, accumulate=True).transpose(1, 2), None


def replace_positions(
    x: Tensor, dropped: Tensor, values: Tensor, owner: Tensor | None, generator: torch.Generator | None = None
) -> Tensor:
    """Put distortions, times U(0, 1) per unit, where units are dropped (lines 8 and 9 of Algorithm 1).

    Args:
        x: Features [B, C, N].
        dropped: Where, bool [B, 1, *spatial], or [B, C, *spatial] with a mask per channel; N positions in all.
        values: Distortions [B, K, C], float32 or float64.
        owner: Which of the K each position takes, int64 [B, N]; None for the one that there is.
        generator: Source of randomness.

    Returns:
        [B, C, *spatial], and a tensor of its own; what is kept is kept to the bit.
    """
    shape = (*x.shape[:2], *dropped.shape[2:])
    where = dropped.flatten(2)
    if (
        x.device.type == "cpu" and where.shape[1] == 1
    ):  # elsewhere the number of positions would have to be read back
        sample, position = where[:, 0].nonzero(as_tuple=True)
        chosen = values[sample, 0 if owner is None else owner[sample, position]]
        noise = torch.rand(chosen.shape, generator=generator, dtype=values.dtype)
        out: Tensor = _Replace.apply(x, cast_within(chosen * noise, x.dtype), sample, position, shape)
        return out
    chosen = values if owner is None else values.gather(1, owner[:, :, None].expand(-1, -1, x.shape[1]))
    noise = torch.rand(x.shape, generator=generator, device=x.device, dtype=values.dtype)
    return torch.where(
        dropped, cast_within(chosen.transpose(1, 2) * noise, x.dtype).view(shape), x.view(shape)
    )


class _Replace(torch.autograd.Function):
    """A copy with some positions replaced. Were it a view of one, the ``+=`` of a residual network would copy it again."""

    @staticmethod
    def forward(
        x: Tensor, values: Tensor, sample: Tensor, position: Tensor, shape: tuple[int, ...]
    ) -> Tensor:
        out = x.new_empty(shape)
        out.flatten(2).copy_(x).transpose(1, 2).index_put_((sample, position), values)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor, Any], output: Tensor) -> None:
        _, _, ctx.sample, ctx.position, _ = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        where = (ctx.sample, ctx.position)
        rows = grad.flatten(2).transpose(1, 2)
        return rows.index_put(where, rows.new_zeros(())).transpose(1, 2), rows[where], None, None, None


def cast_within(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return values in a dtype, kept within what it can hold."""
    if dtype not in (torch.float16, torch.bfloat16):
        return values.to(dtype)
    limit = torch.finfo(dtype).max
    return values.clamp(-limit, limit).to(dtype)
