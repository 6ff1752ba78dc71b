"""Calls that pick or place positions by index: slices, gathers, scatters, embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from regathlon_core.subnetworks.dims import Dim
from regathlon_core.subnetworks.interception import FREE, Axis, Interception, rule
from regathlon_core.subnetworks.rules.pointwise import named

_BOTH = (torch, torch.Tensor)


@rule(torch.Tensor.__getitem__)
def getitem(run: Interception, function: Any, input: Tensor, index: Any) -> Any:
    """Slice, select, insert axes, or look up by index tensors, whose axes stay whole."""
    narrow, axes = _resolve(run, input, index)
    return run.put(input[narrow], axes)


@rule(torch.Tensor.__setitem__)
def setitem(run: Interception, function: Any, input: Tensor, index: Any, value: Any) -> None:
    """Write a value into a region of a tensor."""
    if isinstance(value, Tensor):
        _, region = _resolve(run, input, index)
        own = run.axes(value)
        lengths = run.shape(value)
        for back in range(1, min(len(region), len(own)) + 1):
            if lengths[-back] != 1 and region[-back] is not FREE:
                run.combine(region[-back], own[-back])
        _free_region(run, input, index, region, own)
        narrow, region = _resolve(run, input, index)
        value = run.fit(value, region) if len(own) <= len(region) else value
    else:
        narrow, _ = _resolve(run, input, index)
    input[narrow] = value


def _free_region(
    run: Interception, input: Tensor, index: Any, region: Sequence[Axis], own: Sequence[Axis]
) -> None:
    """Cut a constant that is written to where its free axes meet narrow ones; only axes that are taken in full can be."""
    meets = [
        at
        for at in range(1, min(len(region), len(own)) + 1)
        if region[-at] is FREE and isinstance(own[-at], Dim)
    ]
    if not meets:
        return
    axes: list[Axis] = list(run.axes(input))
    items = list(index) if isinstance(index, tuple) else [index]
    simple = all(item is Ellipsis or isinstance(item, (slice, int)) for item in items)
    for at in meets:
        dim = own[-at]
        place = input.dim() - at
        tail = items[items.index(Ellipsis) + 1 :] if Ellipsis in items else items
        taken = (
            tail[-at]
            if Ellipsis in items and len(tail) >= at
            else (items[place] if place < len(items) else slice(None))
        )
        trailing = tail[-at:] if Ellipsis in items else items[place:]
        if simple and taken == slice(None) and not any(isinstance(item, int) for item in trailing):
            axes[-at] = dim
        else:
            run.whole(dim)
    run.narrow_in_place(input, axes)
    run.put(input, axes)


def _resolve(run: Interception, input: Tensor, index: Any) -> tuple[tuple[Any, ...], list[Axis]]:
    """Translate a full-width index to the narrow tensor; return it and the axes of what it picks."""
    full, axes = run.shape(input), run.axes(input)
    items = _spread(index, input.dim())
    advanced = [isinstance(item, (Tensor, list, bool)) or _is_array(item) for item in items]
    looked_up = any(advanced)
    narrow: list[Any] = []
    result: list[Axis] = []
    places: list[int] = []  # in the result, where index tensors stand
    depth = at = 0
    for item, is_advanced in zip(items, advanced, strict=True):
        if item is None:
            narrow.append(None)
            result.append(None)
            continue
        if isinstance(item, slice):
            part, axis = _slice(run, item, axes[at], full[at])
            narrow.append(part)
            result.append(axis)
            at += 1
            continue
        narrow.append(item)
        consumed = 1
        if is_advanced:
            tensor = item if isinstance(item, Tensor) else torch.as_tensor(item)
            boolean = tensor.dtype in (torch.bool, torch.uint8)
            run.whole(*(run.axes(tensor) if isinstance(item, Tensor) else ()))
            consumed = tensor.dim() if boolean else 1
            depth = max(depth, 1 if boolean else tensor.dim())
        if is_advanced or looked_up:
            places.append(len(result) if not places or places[-1] == len(result) else -1)
        run.whole(*axes[at : at + consumed])
        at += consumed
    if looked_up:
        apart = -1 in places or _apart(items, advanced)
        start = 0 if apart else places[0]
        result[start:start] = [None] * depth
    return tuple(narrow), result


def _apart(items: Sequence[Any], advanced: Sequence[bool]) -> bool:
    """Return whether index tensors (and integers beside them) have other items between them: their axes go first."""
    marks = [is_advanced or isinstance(item, int) for item, is_advanced in zip(items, advanced, strict=True)]
    first, last = marks.index(True), len(marks) - 1 - marks[::-1].index(True)
    return not all(marks[first : last + 1])


def _spread(index: Any, ndim: int) -> list[Any]:
    """Return one item per axis, the Ellipsis replaced by full slices."""
    items = list(index) if isinstance(index, tuple) else [index]
    used = sum(_consumes(item) for item in items)
    at = next((at for at, item in enumerate(items) if item is Ellipsis), len(items))
    return [*items[:at], *[slice(None)] * (ndim - used), *items[at + 1 :]]


def _consumes(item: Any) -> int:
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    if isinstance(item, Tensor) and item.dtype in (torch.bool, torch.uint8):
        return item.dim()
    if _is_array(item) and item.dtype == bool:
        return int(item.ndim)
    return 1


def _is_array(item: Any) -> bool:
    return (
        not isinstance(item, Tensor)
        and hasattr(item, "__array__")
        and hasattr(item, "ndim")
        and item.ndim > 0
    )


def _slice(run: Interception, item: slice, axis: Axis, size: int) -> tuple[slice, Axis]:
    start, stop, step = item.indices(size)
    if not isinstance(axis, Dim) or (start, stop, step) == (0, size, 1):
        return item, axis
    if step == 1:
        stop = max(start, stop)
        before, taken, _ = run.cut(axis, [start, stop - start, size - stop])
        offset = run.count(before, start)
        return slice(offset, offset + run.count(taken, stop - start)), taken
    if size % step == 0 and start < step and stop > size - step + start:  # every step-th, all the way
        outer, _ = parts = run.split(axis, [size // step, step])
        run.whole(parts[1])
        return slice(start, None, step), outer
    run.whole(axis)
    return item, None


@rule(*named("index_select", _BOTH))
def index_select(run: Interception, function: Any, input: Tensor, dim: int, index: Tensor) -> Any:
    """Pick positions of an axis, which stays whole."""
    axes = list(run.axes(input))
    run.whole(axes[dim], *run.axes(index))
    axes[dim] = None
    return run.put(input.index_select(dim, index), axes)


@rule(*named("gather", _BOTH))
def gather(run: Interception, function: Any, input: Tensor, dim: int, index: Tensor, **kwargs: Any) -> Any:
    """Pick along an axis, which stays whole, by an index per position of the others."""
    axes = _indexed(run, dim, index, input)
    out = run.fit(input, axes).gather(dim, run.fit(index, axes), **kwargs)
    axes[dim] = run.axes(index)[dim]
    return run.put(out, axes)


@rule(*named("take_along_dim", _BOTH))
def take_along_dim(run: Interception, function: Any, input: Tensor, indices: Tensor, dim: int) -> Any:
    """Pick along an axis, which stays whole, by indices that broadcast over the others."""
    axes: list[Axis] = []
    for at, column in enumerate(zip(run.axes(input), run.axes(indices), strict=True)):
        wide = [axis for axis, t in zip(column, (input, indices), strict=True) if run.shape(t)[at] != 1]
        if at == dim % input.dim():
            run.whole(column[0])
            axes.append(None)
        else:
            axes.append(run.combine(*wide) if wide else None)
    return run.put(torch.take_along_dim(run.fit(input, axes), run.fit(indices, axes), dim), axes)


@rule(*named("scatter scatter_add scatter_reduce", _BOTH))
def scatter(
    run: Interception,
    function: Any,
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Any = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Add or write along an axis, which stays whole, by an index per position of the others."""
    named_value = "value" in kwargs
    src = kwargs.pop("value") if named_value else src
    tensors = [src] if isinstance(src, Tensor) and src.dim() else []
    axes = _indexed(run, dim, index, input, *tensors)
    if function.__name__.endswith("_"):
        run.narrow_in_place(input, axes)
    target = run.fit(input, axes)
    value = run.fit(src, axes) if tensors else src
    return run.put(function(target, dim, run.fit(index, axes), value, *args, **kwargs), axes)


@rule(*named("index_add index_copy index_reduce", _BOTH))
def index_add(
    run: Interception,
    function: Any,
    input: Tensor,
    dim: int,
    index: Tensor,
    source: Tensor,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Add or write slices of an axis, which stays whole."""
    axes = _indexed(run, dim, None, input, source)
    if function.__name__.endswith("_"):
        run.narrow_in_place(input, axes)
    out = function(run.fit(input, axes), dim, index, run.fit(source, axes), *args, **kwargs)
    return run.put(out, axes)


@rule(*named("index_fill", _BOTH))
def index_fill(run: Interception, function: Any, input: Tensor, dim: int, *args: Any, **kwargs: Any) -> Any:
    """Write a number to positions of an axis, which stays whole."""
    axes = run.axes(input)
    run.whole(axes[dim])
    return run.put(function(input, dim, *args, **kwargs), axes)


def _indexed(run: Interception, dim: int, index: Tensor | None, *tensors: Tensor) -> list[Axis]:
    """Join all axes but ``dim``; where the index is shorter than the rest, the axis stays whole."""
    everything = [*tensors, *([] if index is None else [index])]
    dim %= max(1, tensors[0].dim())
    axes: list[Axis] = []
    for at in range(tensors[0].dim()):
        column = [run.axes(tensor)[at] for tensor in everything]
        if at == dim or len({run.shape(tensor)[at] for tensor in everything}) > 1:
            run.whole(*column)
            axes.append(None)
        else:
            axes.append(run.combine(*column))
    return axes


@rule(F.embedding, torch.embedding, always=True)
def embedding(
    run: Interception, function: Any, input: Tensor, weight: Tensor, *args: Any, **kwargs: Any
) -> Any:
    """Look up rows of a table, whose columns are the features it produces."""
    if function is torch.embedding:  # the table comes first there
        input, weight = weight, input
    axis = run.produced(weight, 1)
    row = [None, axis]
    table = run.fit(weight, row)
    out = (
        function(table, input, *args, **kwargs)
        if function is torch.embedding
        else function(input, table, *args, **kwargs)
    )
    return run.put(out, (*run.axes(input), axis))
