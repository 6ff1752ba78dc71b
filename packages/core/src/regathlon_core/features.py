"""Named places inside a model where feature-level regularizers act, and how their tensors are laid out."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from regathlon_core.errors import UserError, unknown

Layout = Literal["channels_first", "channels_last", "nodes"]


@dataclass(frozen=True)
class FeaturePoint:
    """The output of one submodule, as a place to act.

    Attributes:
        module: Dotted name of the submodule in the model (``"layer3.0"``).
        channels: Number of channels of its output.
        layout: ``"channels_first"`` [B, C, *spatial]; ``"channels_last"`` [B, N, C] (tokens);
            ``"nodes"`` [N, C], the nodes of one graph or of a batch of graphs.
        default: Whether a regularizer acts here unless its settings name places.
        aligned: Whether a position means the same in every sample, as a pixel does; not so for points and nodes.
    """

    module: str
    channels: int
    layout: Layout = "channels_first"
    default: bool = True
    aligned: bool = True


def select_points(points: Sequence[FeaturePoint], where: Sequence[str]) -> list[FeaturePoint]:
    """Return the points that a regularizer acts at.

    Args:
        points: All that the task offers.
        where: Names or shell patterns (``"layer3.*"``); empty for the default points.

    Raises:
        UserError: A pattern matches nothing.
    """
    if not where:
        return [point for point in points if point.default]
    chosen = []
    for pattern in where:
        matches = [point for point in points if fnmatch.fnmatchcase(point.module, pattern)]
        if not matches:
            raise unknown("feature point", pattern, [point.module for point in points])
        chosen += [point for point in matches if point not in chosen]
    return chosen


def points_by_name(model: nn.Module, where: Sequence[str]) -> list[FeaturePoint]:
    """Return points for submodules of any model, for use without a task; channels-first, channels unknown (0).

    Raises:
        UserError: A pattern matches no submodule, or none was given.
    """
    if not where:
        raise UserError("Without a task, name the submodules to act on: where=('layer3', 'layer4.*').")
    names = [FeaturePoint(name, channels=0) for name, _ in model.named_modules() if name]
    return select_points(names, where)


def on_channels_first(
    x: Tensor,
    layout: Layout,
    act: Callable[[Tensor, Tensor | None], Tensor],
    graph_of_node: Tensor | None = None,
) -> Tensor:
    """Apply ``act``, which expects [B, C, *spatial], to a tensor of any layout.

    Nodes become positions, and every graph a sample of its own: [1, C, N], or with several graphs [B, C, N of the
    largest], filled up with zeros. Where ``act`` returns its argument, so does this.

    Args:
        x: Features.
        layout: How they are laid out.
        act: Takes the features and which positions are there: bool [B, N], or None for all of them.
        graph_of_node: For ``"nodes"``: the graph that each node belongs to, int64 [N], rising from 0; None for one graph.
    """
    if layout == "channels_first":
        return act(x, None)
    if layout == "channels_last":
        view = x.transpose(-1, -2)
        out = act(view, None)
        return x if out is view else out.transpose(-1, -2)
    if graph_of_node is None:
        view = x.T[None]
        out = act(view, None)
        return x if out is view else out[0].T
    sizes = torch.bincount(graph_of_node)
    place = torch.arange(len(x), device=x.device) - (sizes.cumsum(0) - sizes)[graph_of_node]
    present = torch.arange(int(sizes.max()), device=x.device) < sizes[:, None]
    view = x.new_zeros(*present.shape, x.shape[1]).index_put((graph_of_node, place), x).transpose(1, 2)
    out = act(view, present)
    return x if out is view else out.transpose(1, 2)[graph_of_node, place]
