"""Calls with weights: they take the channels that arrive, and produce those that the plan says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from regathlon_core.subnetworks.dims import Dim
from regathlon_core.subnetworks.interception import CONSTANT, FREE, LEARNED, Axis, Interception, rule
from regathlon_core.subnetworks.rules.pointwise import broadcast, named

_BOTH = (torch, torch.Tensor)


@rule(F.linear, torch._C._nn.linear, always=True)
def linear(
    run: Interception, function: Any, input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Any:
    """``x Wᵀ + b``: columns follow the input, rows are produced."""
    axes, weight_axes = run.axes(input), run.axes(weight)
    inner = run.combine(None if axes[-1] is FREE else axes[-1], weight_axes[-1])
    if weight.dim() == 1:
        return run.put(function(input, run.fit(weight, [inner])), axes[:-1])
    outer = run.produced(weight, 0)
    if bias is not None:
        outer = run.combine(outer, run.axes(bias)[0])
        bias = run.fit(bias, [outer])
    return run.put(function(input, run.fit(weight, [outer, inner]), bias), (*axes[:-1], outer))


@rule(F.bilinear, torch.bilinear, always=True)
def bilinear(
    run: Interception,
    function: Any,
    input1: Tensor,
    input2: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
) -> Any:
    """``x₁ᵀ W x₂ + b`` with W [out, in₁, in₂]."""
    outer = run.produced(weight, 0)
    axes = run.axes(input1)
    inner = [None if axis is FREE else axis for axis in (axes[-1], run.axes(input2)[-1])]
    out = function(
        input1, input2, run.fit(weight, [outer, *inner]), None if bias is None else run.fit(bias, [outer])
    )
    return run.put(out, (*axes[:-1], outer))


def _convolution(
    run: Interception,
    function: Any,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    groups: int,
    transposed: bool,
) -> tuple[Tensor, Tensor | None, int, list[Axis]]:
    """Cut a convolution's weights; return them, the number of groups and the output's axes."""
    at = input.dim() - (weight.dim() - 1)  # of the channels; unbatched inputs have them first
    axes = [None if axis is FREE else axis for axis in run.axes(input)]
    channels = run.shape(input)[at]
    into, out_of = (0, 1) if transposed else (1, 0)
    outputs = run.shape(weight)[out_of] * (groups if transposed else 1)
    inner, outer = axes[at], run.produced(weight, out_of, outputs)
    out_weight = outer
    if groups > 1:
        group, within = run.split(axes[at], [groups, channels // groups])
        if outer is None and run.mark(weight) == CONSTANT:  # a fixed filter, such as a blur
            each: Axis = None
        else:
            own, each = run.split(outer, [groups, outputs // groups])
            group = run.combine(group, own)
        outer = run.merge([group, each], [groups, outputs // groups])
        inner, out_weight = (inner, each) if transposed else (within, outer)
        groups = run.count(group, groups)
    pair = [inner, out_weight] if transposed else [out_weight, inner]
    if pair[into] is not None and isinstance(run.mark(weight), tuple):
        run.combine(pair[into], run.axes(weight)[into])
    weight = run.fit(weight, [*pair, *[None] * (weight.dim() - 2)])
    bias = None if bias is None else run.fit(bias, [outer])
    return weight, bias, groups, [*axes[:at], outer, *axes[at + 1 :]]


def _space(run: Interception, weight: Tensor, input: Tensor, out: Tensor, axes: list[Axis]) -> list[Axis]:
    """Keep channels whole that a convolution slides along (attention over channels), unless it keeps their number."""
    for at in range(2 - weight.dim(), 0):
        if isinstance(axes[at], Dim) and out.shape[at] != input.shape[at]:
            run.whole(axes[at])
            axes[at] = None
    return axes


@rule(F.conv1d, F.conv2d, F.conv3d, torch.conv1d, torch.conv2d, torch.conv3d, always=True)
def convolution(
    run: Interception,
    function: Any,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Weights [out, in / groups, *kernel]; groups go as a whole, and so do the channels of a depthwise one."""
    weight, bias, groups, axes = _convolution(run, function, input, weight, bias, groups, transposed=False)
    out = function(input, weight, bias, stride, padding, dilation, groups)
    return run.put(out, _space(run, weight, input, out, axes))


@rule(
    *named("conv_transpose1d conv_transpose2d conv_transpose3d", [torch, F]),
    always=True,
)
def transposed_convolution(
    run: Interception,
    function: Any,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Weights [in, out / groups, *kernel]."""
    weight, bias, groups, axes = _convolution(run, function, input, weight, bias, groups, transposed=True)
    out = function(input, weight, bias, stride, padding, output_padding, groups, dilation)
    return run.put(out, _space(run, weight, input, out, axes))


# ---- normalisation -----------------------------------------------------------------------------------------


@rule(F.batch_norm, torch.batch_norm, F.instance_norm, torch.instance_norm)
def batch_norm(run: Interception, function: Any, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Statistics and affine parameters follow the channels (axis 1)."""
    axes = run.axes(input)
    channels = axes[1:2]
    cut = tuple(run.fit(arg, channels) if isinstance(arg, Tensor) else arg for arg in args)
    kwargs = {
        name: run.fit(arg, channels) if isinstance(arg, Tensor) else arg for name, arg in kwargs.items()
    }
    out = function(input, *cut, **kwargs)
    if function is F.batch_norm and isinstance(axes[1], Dim) and kwargs.get("training"):
        for own, moved in zip(
            args[:2], cut[:2], strict=True
        ):  # running mean and variance, where they may move
            if isinstance(own, Tensor) and moved.data_ptr() != own.data_ptr():
                own[run.positions(axes[1], own.device)] = moved  # a part in several pieces is a copy
    return run.put(out, axes)


@rule(F.layer_norm, torch.layer_norm, F.rms_norm)
def layer_norm(
    run: Interception,
    function: Any,
    input: Tensor,
    normalized_shape: Sequence[int],
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Normalise over the channels that are kept."""
    axes = run.axes(input)
    last = axes[len(axes) - len(normalized_shape) :]
    args = tuple(run.fit(arg, last) if isinstance(arg, Tensor) else arg for arg in args)
    kwargs = {name: run.fit(arg, last) if isinstance(arg, Tensor) else arg for name, arg in kwargs.items()}
    shape = [run.count(axis, size) for axis, size in zip(last, normalized_shape, strict=True)]
    return run.put(function(input, shape, *args, **kwargs), axes)


@rule(F.group_norm, torch.group_norm)
def group_norm(
    run: Interception,
    function: Any,
    input: Tensor,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    *rest: Any,
    **kwargs: Any,
) -> Any:
    """Groups go as a whole, so that each has as many channels as before."""
    axes = run.axes(input)
    group, _ = run.split(axes[1], [num_groups, run.shape(input)[1] // num_groups])
    weight, bias = (None if arg is None else run.fit(arg, axes[1:2]) for arg in (weight, bias))
    return run.put(function(input, run.count(group, num_groups), weight, bias, *rest, **kwargs), axes)


# ---- products ----------------------------------------------------------------------------------------------


@rule(*named("matmul mm bmm", _BOTH), torch.sparse.mm, torch.Tensor.__rmatmul__, always=True)
def matmul(run: Interception, function: Any, input: Tensor, other: Tensor, **kwargs: Any) -> Any:
    """Contract the last axis with the second to last; a learned matrix produces the axis it brings in."""
    if function is torch.Tensor.__rmatmul__:
        input, other = other, input
    marks = {run.mark(input), run.mark(other)}
    if marks <= {CONSTANT, LEARNED}:
        return run.put(torch.matmul(input, other), [FREE] * torch.matmul(input, other).dim())
    a, b = list(run.axes(input)), list(run.axes(other))
    inner = run.combine(a[-1], b[-2] if len(b) > 1 else b[-1])
    if len(b) > 1 and run.mark(other) == LEARNED:
        b[-1] = run.produced(other, other.dim() - 1)
    if len(a) > 1 and run.mark(input) == LEARNED:
        a[-2] = run.produced(input, input.dim() - 2)
    left = [] if len(a) == 1 else [None if a[-2] is FREE else a[-2]]
    right = [] if len(b) == 1 else [None if b[-1] is FREE else b[-1]]
    batch = _batch(run, input, other)
    out = torch.matmul(
        run.fit(input, [*batch, *left, inner]),
        run.fit(other, [*batch, *([inner] if len(b) == 1 else [inner, *right])]),
    )
    return run.put(out, [*batch, *left, *right])


def _batch(run: Interception, *tensors: Tensor) -> list[Axis]:
    """Join the axes before the last two, as broadcasting does."""
    columns: list[Axis] = []
    shapes = [run.shape(tensor)[:-2] for tensor in tensors]
    marks = [run.axes(tensor)[:-2] for tensor in tensors]
    for back in range(-max(map(len, shapes)), 0):
        here = [(s[back], m[back]) for s, m in zip(shapes, marks, strict=True) if len(s) >= -back]
        wide = [axis for size, axis in here if size != 1]
        columns.append(run.combine(*wide) if wide else None)
    return columns


@rule(torch.mv, torch.Tensor.mv, torch.dot, torch.Tensor.dot, torch.inner, torch.Tensor.inner)
def vector_product(run: Interception, function: Any, input: Tensor, other: Tensor) -> Any:
    """Contract the last axes."""
    a, b = run.axes(input), run.axes(other)
    inner = run.combine(a[-1], b[-1])
    rest = [*a[:-1], *b[:-1]]
    out = function(run.fit(input, [*a[:-1], inner]), run.fit(other, [*b[:-1], inner]))
    return run.put(out, [None if axis is FREE else axis for axis in rest])


@rule(*named("addmm baddbmm addmv", _BOTH), always=True)
def addmm(
    run: Interception,
    function: Any,
    input: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    beta: Any = 1,
    alpha: Any = 1,
) -> Any:
    """``beta · input + alpha · first second``."""
    with run:
        product = torch.matmul(first, second)
        return beta * input + (product if alpha == 1 else alpha * product)


@rule(torch.einsum, always=True)
def einsum(run: Interception, function: Any, equation: str, *operands: Any) -> Any:
    """Join axes that have a letter in common; a letter that only learned operands have is produced."""
    tensors = (
        list(operands[0]) if len(operands) == 1 and not isinstance(operands[0], Tensor) else list(operands)
    )
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    marks = [run.mark(tensor) for tensor in tensors]
    if all(mark in (CONSTANT, LEARNED) for mark in marks):
        out = torch.einsum(equation, *tensors)
        return run.put(out, [FREE] * out.dim())
    letters = [_letters(term, tensor.dim()) for term, tensor in zip(terms, tensors, strict=True)]
    axes: dict[str, Axis] = {}
    for name in dict.fromkeys(letter for term in letters for letter in term):
        owners = [
            (tensor, mark, term.index(name))
            for tensor, mark, term in zip(tensors, marks, letters, strict=True)
            if name in term and run.shape(tensor)[term.index(name)] != 1
        ]
        if owners and all(mark == LEARNED for _, mark, _ in owners):
            axes[name] = run.combine(*(run.produced(tensor, at) for tensor, _, at in owners))
        else:
            joined = run.combine(*(run.axes(tensor)[at] for tensor, _, at in owners)) if owners else None
            axes[name] = None if joined is FREE else joined
    fitted = [run.fit(t, [axes[letter] for letter in term]) for t, term in zip(tensors, letters, strict=True)]
    out = torch.einsum(equation, *fitted)
    if "->" not in equation:
        counts = {letter: left.count(letter) for letter in left if letter.isalpha()}
        right = ("..." if "..." in left else "") + "".join(sorted(c for c, n in counts.items() if n == 1))
    return run.put(out, [axes[letter] for letter in _letters(right, out.dim())])


def _letters(term: str, ndim: int) -> list[str]:
    """Return one name per axis; the axes of an ellipsis are named by their distance from its end."""
    if "..." not in term:
        return list(term)
    before, after = term.split("...")
    hidden = ndim - len(before) - len(after)
    return [*before, *(f".{back}" for back in range(hidden, 0, -1)), *after]


# ---- distances ---------------------------------------------------------------------------------------------


@rule(torch.cdist)
def cdist(run: Interception, function: Any, x1: Tensor, x2: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Distances between rows over the features that are kept."""
    batch = _batch(run, x1, x2)
    a, b = run.axes(x1), run.axes(x2)
    inner = run.combine(a[-1], b[-1])
    run.whole(a[-2], b[-2])
    out = function(run.fit(x1, [*batch, None, inner]), run.fit(x2, [*batch, None, inner]), *args, **kwargs)
    return run.put(out, [*batch, None, None])


@rule(F.cosine_similarity, torch.cosine_similarity, F.pairwise_distance)
def similarity(run: Interception, function: Any, x1: Tensor, x2: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Compare along one axis, over what is kept of it."""
    axes = list(broadcast(run, [x1, x2]))
    out = function(run.fit(x1, axes), run.fit(x2, axes), *args, **kwargs)
    dim = -1 if function is F.pairwise_distance else kwargs.get("dim", args[0] if args else 1)
    if out.dim() == len(axes):
        axes[dim] = None
    else:
        del axes[dim]
    return run.put(out, axes)
