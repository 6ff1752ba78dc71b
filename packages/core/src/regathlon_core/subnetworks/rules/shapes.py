"""Calls that ask for shapes, or that rearrange axes without touching values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from regathlon_core.subnetworks.dims import Dim
from regathlon_core.subnetworks.interception import FREE, Axis, Interception, rule
from regathlon_core.subnetworks.rules.pointwise import broadcast, getters, listed, named

_BOTH = (torch, torch.Tensor)


# ---- what the model sees of shapes -------------------------------------------------------------------------


@rule(*getters("shape"))
def shape(run: Interception, function: Any, input: Tensor) -> torch.Size:
    """Answer for the full-width tensor."""
    return torch.Size(run.shape(input))


@rule(torch.Tensor.size)
def size(run: Interception, function: Any, input: Tensor, dim: int | None = None) -> Any:
    """Answer for the full-width tensor."""
    full = run.shape(input)
    return torch.Size(full) if dim is None else full[dim]


@rule(torch.Tensor.numel, torch.Tensor.nelement, torch.numel)
def numel(run: Interception, function: Any, input: Tensor) -> int:
    """Answer for the full-width tensor."""
    return math.prod(run.shape(input))


@rule(torch.Tensor.__len__)
def length(run: Interception, function: Any, input: Tensor) -> int:
    """Answer for the full-width tensor."""
    return run.shape(input)[0]


# ---- views -------------------------------------------------------------------------------------------------


@rule(*named("reshape view", _BOTH))
def reshape(run: Interception, function: Any, input: Tensor, *target: Any, **kwargs: Any) -> Any:
    """Merge and split axes; the target is a full-width shape."""
    if target and isinstance(target[0], torch.dtype):
        return run.put(function(input, *target), run.axes(input))
    return _reshape(run, input, listed(kwargs.get("shape", kwargs.get("size", target))))


@rule(*named("view_as reshape_as", _BOTH))
def reshape_as(run: Interception, function: Any, input: Tensor, other: Tensor) -> Any:
    """Take the full-width shape of another tensor."""
    return _reshape(run, input, run.shape(other))


@rule(*named("flatten ravel", _BOTH))
def flatten(run: Interception, function: Any, input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Merge consecutive axes."""
    full = run.shape(input) or [1]
    start, end = start_dim % len(full), end_dim % len(full)
    return _reshape(run, input, [*full[:start], math.prod(full[start : end + 1]), *full[end + 1 :]])


@rule(*named("unflatten", _BOTH))
def unflatten(run: Interception, function: Any, input: Tensor, dim: int, sizes: Sequence[int]) -> Any:
    """Split an axis."""
    full = run.shape(input)
    dim %= len(full)
    sizes = list(sizes)
    if -1 in sizes:
        sizes[sizes.index(-1)] = full[dim] // -math.prod(sizes)
    return _reshape(run, input, [*full[:dim], *sizes, *full[dim + 1 :]])


def _reshape(run: Interception, input: Tensor, target: list[int]) -> Tensor:
    full, axes = run.shape(input), run.axes(input)
    if -1 in target:
        known = math.prod(size for size in target if size != -1)
        target = [math.prod(full) // known if size == -1 else size for size in target]
    if math.prod(full) != math.prod(target):
        raise RuntimeError(f"shape {target} is invalid for input of size {math.prod(full)}")
    if 0 in full:
        run.whole(*axes)
        out = input.reshape(target)
        return run.put(out, [None] * out.dim())  # type: ignore[no-any-return]
    result: list[Axis] = []
    for sources, targets in _blocks(full, target):
        sizes = [target[at] for at in targets]
        if len(sources) == len(targets) == 1:
            result.append(axes[sources[0]])
            continue
        merged = run.merge([axes[at] for at in sources], [full[at] for at in sources])
        parts = run.split(merged, sizes) if sizes else []
        result += [None if size == 1 else part for part, size in zip(parts, sizes, strict=True)]
    narrow = [run.count(axis, size) for axis, size in zip(result, target, strict=True)]
    return run.put(input.reshape(narrow), result)  # type: ignore[no-any-return]


def _blocks(source: Sequence[int], target: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Return the shortest runs of axes whose lengths multiply to the same number in both shapes."""
    blocks, i, j = [], 0, 0
    while i < len(source) or j < len(target):
        left, right = [i][: len(source) - i], [j][: len(target) - j]
        i, j = i + len(left), j + len(right)
        a, b = math.prod(source[at] for at in left), math.prod(target[at] for at in right)
        while a != b:
            if a < b:
                left.append(i)
                a, i = a * source[i], i + 1
            else:
                right.append(j)
                b, j = b * target[j], j + 1
        blocks.append((left, right))
    return blocks


@rule(*named("permute", _BOTH))
def permute(run: Interception, function: Any, input: Tensor, *dims: Any, **kwargs: Any) -> Any:
    """Reorder axes."""
    order = listed(kwargs.get("dims", dims))
    axes = run.axes(input)
    return run.put(input.permute(order), [axes[at] for at in order])


@rule(*named("transpose transpose_ swapaxes swapdims", _BOTH))
def transpose(run: Interception, function: Any, input: Tensor, dim0: int, dim1: int) -> Any:
    """Swap two axes."""
    axes = list(run.axes(input))
    axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    return run.put(function(input, dim0, dim1), axes)


@rule(*getters("mT mH"))
def transpose_last(run: Interception, function: Any, input: Tensor) -> Any:
    """Swap the last two axes."""
    axes = run.axes(input)
    return run.put(function(input), (*axes[:-2], axes[-1], axes[-2]))


@rule(*getters("T H"), *named("t", _BOTH))
def reverse_axes(run: Interception, function: Any, input: Tensor) -> Any:
    """Reverse the order of axes."""
    return run.put(function(input), run.axes(input)[::-1])


@rule(*named("movedim moveaxis", _BOTH))
def movedim(run: Interception, function: Any, input: Tensor, source: Any, destination: Any) -> Any:
    """Move axes."""
    order = torch.empty(*range(1, input.dim() + 1), device="meta").movedim(source, destination).shape
    axes = run.axes(input)
    return run.put(function(input, source, destination), [axes[length - 1] for length in order])


@rule(*named("unsqueeze", _BOTH))
def unsqueeze(run: Interception, function: Any, input: Tensor, dim: int) -> Any:
    """Insert an axis of length 1."""
    axes = list(run.axes(input))
    axes.insert(dim % (len(axes) + 1), None)
    return run.put(function(input, dim), axes)


@rule(*named("squeeze", _BOTH))
def squeeze(run: Interception, function: Any, input: Tensor, dim: Any = None) -> Any:
    """Drop axes that have length 1 at full width."""
    full, axes = run.shape(input), run.axes(input)
    asked = range(len(full)) if dim is None else [at % len(full) for at in listed(dim)]
    gone = [at for at in asked if full[at] == 1]
    return run.put(input.squeeze(gone), [axis for at, axis in enumerate(axes) if at not in gone])


@rule(*named("expand broadcast_to", _BOTH), always=True)
def expand(run: Interception, function: Any, input: Tensor, *sizes: Any, **kwargs: Any) -> Any:
    """Repeat axes of length 1: they become free."""
    return _expand(run, input, listed(kwargs.get("size", sizes)))


@rule(*named("expand_as", _BOTH), always=True)
def expand_as(run: Interception, function: Any, input: Tensor, other: Tensor) -> Any:
    """Repeat axes of length 1 to the full-width shape of another tensor."""
    return _expand(run, input, run.shape(other))


@rule(torch.broadcast_tensors)
def broadcast_tensors(run: Interception, function: Any, *tensors: Tensor) -> Any:
    """Expand all to one full-width shape."""
    shapes = [run.shape(tensor) for tensor in tensors]
    target = list(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]
    return tuple(_expand(run, tensor, target) for tensor in tensors)


def _expand(run: Interception, input: Tensor, target: list[int]) -> Tensor:
    full, axes = run.shape(input), run.axes(input)
    new = len(target) - len(full)
    kept = [length in (-1, size) for length, size in zip(target[new:], full, strict=True)]
    narrow = [*target[:new], *(-1 if keep else size for keep, size in zip(kept, target[new:], strict=True))]
    marks = [axis if keep else FREE for keep, axis in zip(kept, axes, strict=True)]
    return run.put(input.expand(narrow), [FREE] * new + marks)  # type: ignore[no-any-return]


@rule(*named("repeat tile", _BOTH), always=True)
def repeat(run: Interception, function: Any, input: Tensor, *repeats: Any, **kwargs: Any) -> Any:
    """Repeat along axes; one of length 1 becomes free."""
    times = listed(kwargs.get("repeats", kwargs.get("dims", repeats)))
    times = [1] * (input.dim() - len(times)) + times
    new = len(times) - input.dim()
    full, axes = [1] * new + run.shape(input), (None,) * new + run.axes(input)
    marks = [
        axis
        if n == 1
        else FREE
        if size == 1
        else run.merge([None, axis], [n, size])
        if axis is not FREE
        else None
        for axis, size, n in zip(axes, full, times, strict=True)
    ]
    return run.put(input.repeat(times), marks)


@rule(*named("repeat_interleave", _BOTH))
def repeat_interleave(
    run: Interception, function: Any, input: Tensor, repeats: Any, dim: int | None = None, **kwargs: Any
) -> Any:
    """Repeat positions of an axis, each the same number of times or (whole axes) its own."""
    out = function(input, repeats, dim, **kwargs)
    full, axes = run.shape(input), list(run.axes(input))
    if dim is None:
        run.whole(*axes)
        return run.put(out, [None])
    if isinstance(repeats, int):
        axes[dim] = FREE if full[dim] == 1 else run.merge([axes[dim], None], [full[dim], repeats])
    else:
        run.whole(axes[dim])
        axes[dim] = None
    return run.put(out, axes)


# ---- joining and taking apart ------------------------------------------------------------------------------


@rule(*named("cat concat concatenate", _BOTH))
def concatenate(
    run: Interception, function: Any, tensors: Sequence[Tensor], dim: int = 0, **kwargs: Any
) -> Any:
    """Put axes one after another: their kept positions become segments."""
    dim = kwargs.get("axis", dim)
    tensors = [tensor for tensor in tensors if tensor.dim() > 1 or run.shape(tensor) != [0]]
    dim %= tensors[0].dim()
    marks = [run.axes(tensor) for tensor in tensors]
    axes: list[Axis] = []
    for at, column in enumerate(zip(*marks, strict=True)):
        lengths = [run.shape(tensor)[at] for tensor in tensors]
        axes.append(run.cat(column, lengths) if at == dim else run.combine(*column))
    fitted = [run.fit(t, [None if at == dim else axis for at, axis in enumerate(axes)]) for t in tensors]
    return run.put(torch.cat(fitted, dim), axes)


@rule(*named("stack", _BOTH))
def stack(run: Interception, function: Any, tensors: Sequence[Tensor], dim: int = 0) -> Any:
    """Join axes and insert a new one."""
    axes = list(broadcast(run, tensors))
    out = torch.stack([run.fit(tensor, axes) for tensor in tensors], dim)
    axes.insert(dim % out.dim(), None)
    return run.put(out, axes)


@rule(*named("split split_with_sizes", _BOTH))
def split(
    run: Interception, function: Any, tensor: Tensor, split_size: Any = None, dim: int = 0, **kwargs: Any
) -> Any:
    """Cut an axis into pieces of a size, or of given sizes."""
    split_size = next(
        (kwargs[name] for name in ("split_size_or_sections", "split_sizes") if name in kwargs), split_size
    )
    length = run.shape(tensor)[dim]
    if isinstance(split_size, int):
        split_size = [min(split_size, length - start) for start in range(0, length, split_size)]
    return _pieces(run, tensor, list(split_size), dim)


@rule(*named("chunk unsafe_chunk", _BOTH))
def chunk(run: Interception, function: Any, input: Tensor, chunks: int, dim: int = 0) -> Any:
    """Cut an axis into pieces of equal size, the last one shorter."""
    length = run.shape(input)[dim]
    step = max(1, -(-length // chunks))
    return _pieces(run, input, [min(step, length - start) for start in range(0, length, step)], dim)


@rule(*named("tensor_split", _BOTH))
def tensor_split(
    run: Interception, function: Any, input: Tensor, indices_or_sections: Any, dim: int = 0
) -> Any:
    """Cut an axis into a number of pieces or at positions."""
    length = run.shape(input)[dim]
    if isinstance(indices_or_sections, int):
        base, extra = divmod(length, indices_or_sections)
        return _pieces(run, input, [base + (at < extra) for at in range(indices_or_sections)], dim)
    bounds = [0, *(min(int(at), length) for at in indices_or_sections), length]
    return _pieces(run, input, [high - low for low, high in itertools.pairwise(bounds)], dim)


def _pieces(run: Interception, input: Tensor, sizes: list[int], dim: int) -> tuple[Tensor, ...]:
    axes = list(run.axes(input))
    cuts = run.cut(axes[dim], sizes)
    lengths = [run.count(cut, size) for cut, size in zip(cuts, sizes, strict=True)]
    out = []
    for piece, cut in zip(input.split_with_sizes(lengths, dim), cuts, strict=True):
        axes[dim] = cut
        out.append(run.put(piece, axes))
    return tuple(out)


@rule(*named("unbind", _BOTH))
def unbind(run: Interception, function: Any, input: Tensor, dim: int = 0) -> Any:
    """Take an axis apart, which stays whole."""
    axes = list(run.axes(input))
    run.whole(axes.pop(dim))
    return tuple(run.put(piece, axes) for piece in input.unbind(dim))


@rule(*named("narrow", _BOTH))
def narrow(run: Interception, function: Any, input: Tensor, dim: int, start: int, length: int) -> Any:
    """Take a slice of an axis."""
    full = run.shape(input)[dim]
    start = int(start) + full * (start < 0)
    return _pieces(run, input, [start, length, full - start - length], dim)[1]


@rule(*named("select", _BOTH))
def select(run: Interception, function: Any, input: Tensor, dim: int, index: int) -> Any:
    """Take one position of an axis, which stays whole."""
    axes = list(run.axes(input))
    run.whole(axes.pop(dim))
    return run.put(input.select(dim, index), axes)


@rule(torch.Tensor.unfold)
def unfold(run: Interception, function: Any, input: Tensor, dimension: int, size: int, step: int) -> Any:
    """Slide a window along an axis, which stays whole."""
    axes = list(run.axes(input))
    run.whole(axes[dimension])
    axes[dimension] = None
    return run.put(function(input, dimension, size, step), [*axes, None])


# ---- padding -----------------------------------------------------------------------------------------------


@rule(F.pad, torch.constant_pad_nd)
def pad(
    run: Interception,
    function: Any,
    input: Tensor,
    pad: Sequence[int],
    mode: str = "constant",
    value: Any = None,
) -> Any:
    """Pad axes. Zero-padded channels (the shortcut of PyramidNet) are as many as the sub-network's sum needs."""
    full, axes, pad = run.shape(input), list(run.axes(input)), list(pad)
    for back in range(len(pad) // 2):
        at = -1 - back
        before, after = pad[2 * back : 2 * back + 2]
        axis, size = axes[at], full[at] + before + after
        if not (before or after):
            continue
        if not isinstance(axis, Dim):
            axes[at] = None
        elif mode == "constant" and not value and min(before, after) >= 0 and axis.root().kind != "sum":
            padded = axes[at] = run.padding(axis, size)
            missing = run.count(padded, size) - run.count(axis, full[at])
            pad[2 * back] = min(before, missing)
            pad[2 * back + 1] = missing - pad[2 * back]
        else:
            run.whole(axis)
            axes[at] = None
    if mode == "constant":
        return run.put(F.pad(input, pad, mode, value), axes)
    return run.put(F.pad(input, pad, mode), axes)
