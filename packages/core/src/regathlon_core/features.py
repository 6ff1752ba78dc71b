"""Named places inside a model where feature-level regularizers act, and how their tensors are laid out."""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from regathlon_core.errors import NoEffectWarning, UserError, unknown

Layout = Literal["channels_first", "channels_last", "nodes"]
Side = Literal["output", "input", "skip"]
Grouping = Literal["batch", "size", "node"]
Hook = Callable[[nn.Module, Any, Tensor], Tensor | None]
"""Takes a module, its positional arguments and the features at a point; returns features to go on with, or None."""


@dataclass(frozen=True)
class FeaturePoint:
    """A tensor that one submodule makes or reads, as a place to act.

    Attributes:
        module: Dotted name of the submodule in the model (``"layer3.0"``).
        channels: Number of channels of the tensor.
        layout: ``"channels_first"`` [B, C, *spatial]; ``"channels_last"`` [B, N, C] (tokens);
            ``"nodes"`` [N, C], the nodes of one graph or of a batch of graphs.
        default: Whether a regularizer acts here unless its settings name places.
        aligned: Whether a position means the same in every sample, as a pixel does; not so for points and nodes.
        side: Which tensor of the submodule: its ``"output"``; its first ``"input"``, for activations that are no module
            of their own; or its ``"skip"``, the input as an identity shortcut takes it, past the submodule ``main``.
        main: For ``"skip"``: dotted name in the model of the submodule whose input stays as it is.
        name: What settings call the place; the submodule's name unless given. Places inside a block have a slash
            (``"layer3.0/relu1"``).
        group: The part of the model that it belongs to, for rates that differ between parts.
        placements: Names of the sets of places that it is in: all that settings need to say to act at the whole set.
    """

    module: str
    channels: int
    layout: Layout = "channels_first"
    default: bool = True
    aligned: bool = True
    side: Side = "output"
    main: str = ""
    name: str = ""
    group: str = ""
    placements: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.module)


def select_points(points: Sequence[FeaturePoint], where: Sequence[str]) -> list[FeaturePoint]:
    """Return the points that a regularizer acts at.

    Args:
        points: All that the task offers.
        where: Placements (``"dropgraph"``), names, or shell patterns (``"layer3.*"``), whose stars stop at slashes; empty
            for the default points.

    Raises:
        UserError: A pattern matches nothing.

    Example:
        >>> points = [FeaturePoint("block", 8), FeaturePoint("conv", 4, name="block/relu", placements=("inside",))]
        >>> [[point.name for point in select_points(points, (where,))] for where in ("*", "*/*", "inside")]
        [['block'], ['block/relu'], ['block/relu']]
    """
    if not where:
        return [point for point in points if point.default]
    chosen: list[FeaturePoint] = []
    for pattern in where:
        matches = _matches(points, pattern)
        if not matches:
            placements = {placement for point in points for placement in point.placements}
            raise unknown("feature point", pattern, [*placements, *(point.name for point in points)])
        chosen += [point for point in matches if point not in chosen]
    return chosen


def require_channels(name: str, point: FeaturePoint) -> None:
    """Refuse a place whose number of channels is not known, for regularizers with parameters of that size.

    Args:
        name: The regularizer's.
        point: The place.

    Raises:
        UserError: The number is not known.
    """
    if point.channels < 1:
        raise UserError(
            f"{name} needs the number of channels at {point.name!r}; attach it with a task, whose features() say so, "
            f"or with points=[FeaturePoint({point.name!r}, channels=...)]."
        )


def key_of_place(place: str) -> str:
    """Return a place's key in dictionaries of modules or parameters, which allow no dots and no empty names.

    Example:
        >>> key_of_place("layer1.0"), key_of_place("")
        ('at_layer1_0', 'at_')
    """
    return f"at_{place.replace('.', '_')}"


def _matches(points: Sequence[FeaturePoint], pattern: str) -> list[FeaturePoint]:
    in_set = [point for point in points if pattern in point.placements]
    return in_set or [point for point in points if _fits(point.name, pattern)]


def _fits(name: str, pattern: str) -> bool:
    parts, patterns = name.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


def points_by_name(model: nn.Module, where: Sequence[str]) -> list[FeaturePoint]:
    """Return points for submodules of any model, for use without a task; channels-first, channels unknown (0).

    A pattern that matches no submodule has no effect, of which a ``NoEffectWarning`` tells.

    Raises:
        UserError: No pattern was given.
    """
    if not where:
        raise UserError("Without a task, name the submodules to act on: where=('layer3', 'layer4.*').")
    return select_or_warn(
        [FeaturePoint(name, channels=0) for name, _ in model.named_modules() if name], where
    )


def select_or_warn(points: Sequence[FeaturePoint], where: Sequence[str]) -> list[FeaturePoint]:
    """Do as ``select_points``, but only warn of patterns that match nothing, as fits code of one's own."""
    chosen: list[FeaturePoint] = [] if where else select_points(points, ())
    for pattern in where:
        try:
            chosen += [point for point in select_points(points, (pattern,)) if point not in chosen]
        except UserError as error:
            warnings.warn(f"{error} It has no effect.", NoEffectWarning, stacklevel=2)
    return chosen


def hook_point(model: nn.Module, point: FeaturePoint, hook: Hook) -> list[RemovableHandle]:
    """Have a function see, and perhaps replace, the features at a point in every pass of a model.

    Args:
        model: The model; its modules and state-dict keys stay what they are.
        point: The place.
        hook: What to call.

    Returns:
        Handles that take the hooks away again.
    """
    module = model.get_submodule(point.module)
    if point.side == "output":
        return [module.register_forward_hook(hook)]

    def before(module: nn.Module, inputs: Any) -> tuple[Any, ...] | None:
        changed = hook(module, inputs, inputs[0])
        return None if changed is None or changed is inputs[0] else (changed, *inputs[1:])

    if point.side == "input":
        return [module.register_forward_pre_hook(before)]
    split: list[tuple[Tensor, Tensor]] = []  # what the block reads now, and what its main branch is to read

    def before_block(module: nn.Module, inputs: Any) -> tuple[Any, ...] | None:
        replaced = before(module, inputs)
        split[:] = [(replaced[0], inputs[0])] if replaced is not None else []
        return replaced

    def before_main(module: nn.Module, inputs: Any) -> tuple[Any, ...] | None:
        if not split or inputs[0] is not split[0][0]:
            return None
        return (split.pop()[1], *inputs[1:])

    main = model.get_submodule(point.main)
    # The last to be called, so that it gives back what the whole block was called with.
    return [module.register_forward_pre_hook(before_block), main.register_forward_pre_hook(before_main)]


def on_channels_first(
    x: Tensor,
    layout: Layout,
    act: Callable[[Tensor, Tensor | None], Tensor],
    graph_of_node: Tensor | None = None,
    grouping: Grouping = "batch",
) -> Tensor:
    """Apply ``act``, which expects [B, C, *spatial], to a tensor of any layout.

    Nodes become positions, and every graph a sample of its own: [1, C, N], or with several graphs [B, C, N of the
    largest], filled up with zeros. Where ``act`` returns its argument, so does this.

    Args:
        x: Features.
        layout: How they are laid out.
        act: Takes the features and which positions are there: bool [B, N], or None for all of them.
        graph_of_node: For ``"nodes"``: the graph that each node belongs to, int64 [N], rising from 0; None for one graph.
        grouping: How much of a batch of graphs ``act`` has to see at once: all of it (``"batch"``); or graphs of about the
            same size, group by group, which are filled up less (``"size"``), where what happens to one has nothing to do
            with the others; or the nodes of all as positions of a single sample (``"node"``), where neither has what
            happens to positions.
    """
    if layout == "channels_first":
        return act(x, None)
    if layout == "channels_last":
        view = x.transpose(-1, -2)
        out = act(view, None)
        return x if out is view else out.transpose(-1, -2)
    if graph_of_node is None or grouping == "node":
        view = x.T[None]
        out = act(view, None)
        return x if out is view else out.squeeze(0).T  # unlike [0], costs nothing backwards
    sizes = torch.bincount(graph_of_node)
    if grouping == "batch":
        return _filled_up(x, sizes, graph_of_node, act)
    parts, nodes = [], []
    for graphs in groups_of_sizes(sizes):
        number = torch.full_like(sizes, -1).index_copy(0, graphs, torch.arange(len(graphs), device=x.device))
        renumbered = number[graph_of_node]
        chosen = (renumbered >= 0).nonzero()[:, 0]
        parts.append(_filled_up(x.index_select(0, chosen), sizes[graphs], renumbered[chosen], act))
        nodes.append(chosen)
    return torch.cat(parts).index_select(0, torch.cat(nodes).argsort())


def groups_of_sizes(sizes: Tensor) -> list[Tensor]:
    """Return which of the sizes above 0 are about the same: the largest of a group is less than four times the smallest.

    Args:
        sizes: int64 [B].

    Returns:
        Positions in ``sizes``, rising, int64 each; groups of small sizes first.

    Example:
        >>> [group.tolist() for group in groups_of_sizes(torch.tensor([3, 70, 0, 2, 5]))]
        [[0, 3], [4], [1]]
    """
    group = (sizes.clamp(min=1).double().log2() / 2).floor().masked_fill(sizes == 0, -1.0)
    return [(group == number).nonzero()[:, 0] for number in sorted(set(group.tolist())) if number >= 0]


def _filled_up(
    x: Tensor, sizes: Tensor, graph_of_node: Tensor, act: Callable[[Tensor, Tensor | None], Tensor]
) -> Tensor:
    """Apply ``act`` to graphs that are filled up with zeros to the largest."""
    graphs, largest, channels = len(sizes), int(sizes.max()), x.shape[1]
    begins = sizes.cumsum(0) - sizes
    place = (
        torch.arange(len(x), device=x.device)
        + (torch.arange(graphs, device=x.device) * largest - begins)[graph_of_node]
    )
    present = torch.arange(largest, device=x.device) < sizes[:, None]
    view = x.new_zeros(graphs * largest, channels).index_copy(0, place, x)
    view = view.view(graphs, largest, channels).transpose(1, 2)
    out = act(view, present)
    return x if out is view else out.transpose(1, 2).reshape(-1, channels).index_select(0, place)
