"""How relevance flows back through each kind of torch call.

=============  ============================================================================================
passes         elementwise functions, dropout, scaling by constants, batch-norm: the input gets it all
moves          views, indexing, joining: relevance goes where the numbers came from
selects        maxima: the winner takes all
adds           sums, means, interpolation: in proportion to the summands
multiplies     gates (softmax, sigmoid) take nothing, two signals take half each
normalises     layer norms are linear: their denominators are constants
layers         convolutions and fully connected layers: the rule that the composite names
=============  ============================================================================================

Sources: the norm rule for sums (the ε-rule with unit weights) and winner-takes-all, Bach et al. 2015; gates that
take nothing, Arras et al., "Explaining recurrent neural network predictions in sentiment analysis", WASSA 2017;
softmax weights and layer norms' denominators as constants, Ali et al., "XAI for transformers: better explanations
through conservative propagation", ICML 2022, section 4; half each for products of two signals, Achtibat et al.,
"AttnLRP: attention-aware layer-wise relevance propagation for transformers", ICML 2024.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.attribution.layers import (
    DenseMap,
    Layer,
    LinearMap,
    Saved,
    conv_map,
    conv_transpose_map,
)
from regathlon_core.attribution.record import Backward, Call, Handler, Runner, Value
from regathlon_core.attribution.rules import quotient, stabilised

_DENSE = DenseMap()


def _fit(r: Tensor, value: Value) -> Tensor:
    """Undo broadcasting and a change of type."""
    return r.sum_to_size(value.shape).to(value.dtype)


def _only(rs: Sequence[Tensor | None]) -> Tensor:
    (r,) = rs
    assert r is not None
    return r


def _carries(call: Call, value: Value) -> None:
    """Note that the outputs are that value but for a scale, a constant, another shape or a choice of entries."""
    for out in call.outputs:
        out.carries = value


def _all_to(value: Value) -> Backward:
    return lambda rs: [(value, _fit(_only(rs), value))]


# ---- passes ------------------------------------------------------------------------------------------------


def _passes(
    call: Call, *, nonnegative: bool = False, keeps_sign: bool = False, gate: bool = False
) -> Backward | None:
    value = call.value(call.argument(0, "input"))
    if value is None:
        value = next(iter(call.values.values()))
    out = call.outputs[0]
    out.raw = value.raw
    out.nonnegative = nonnegative or (keeps_sign and value.nonnegative)
    out.gate = gate or (keeps_sign and value.gate)
    if keeps_sign:
        _carries(call, value)
    return _all_to(value)


def _softmax(call: Call) -> Backward | None:
    """Pass on; a model whose last call this is explains the logits."""
    x = call.argument(0, "input")
    value = call.value(x)
    assert value is not None
    call.details = value, call.record.save(x)
    return _passes(call, nonnegative=call.name == "softmax", gate=call.name == "softmax")


def _clamp(call: Call) -> Backward | None:
    lower = call.argument(1, "min", call.kwargs.get("min_val"))
    return _passes(call, nonnegative=isinstance(lower, numbers.Real) and float(lower) >= 0)


def _glu(call: Call) -> Backward | None:
    value = call.value(call.argument(0, "input"))
    assert value is not None
    dim = call.argument(1, "dim", -1)

    def backward(rs: Sequence[Tensor | None]) -> list[tuple[Value, Tensor]]:
        r = _only(rs)
        return [(value, torch.cat((r, torch.zeros_like(r)), dim))]

    return backward


# ---- moves, selects, adds: by replaying the call -----------------------------------------------------------


@dataclass(frozen=True)
class _Leaf:
    index: int


class _Replay:
    """A call that can be made again, with gradients.

    Args:
        call: The call.
        reads: Whether the result's derivative depends on the values of the inputs, so that they must be kept.
    """

    def __init__(self, call: Call, *, reads: bool) -> None:
        self.values: list[Value] = []
        self.saved: list[Saved | None] = []
        self._function = call.function
        self._call = call
        self._reads = reads
        self._args = self._pack(call.args)
        self._kwargs = self._pack(call.kwargs)
        del self._call

    def run(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the inputs as leaves of a new graph, and the floating-point outputs."""
        leaves = []
        for value, saved in zip(self.values, self.saved, strict=True):
            if saved is None:
                blank = torch.empty((), dtype=value.dtype, device=value.device)
                leaves.append(blank.expand(value.shape).requires_grad_())
            else:
                leaves.append(saved.tensor.detach().requires_grad_())
        with torch.enable_grad():
            result = self._function(*self._unpack(self._args, leaves), **self._unpack(self._kwargs, leaves))
        outputs = [result] if isinstance(result, Tensor) else list(result)
        return leaves, [out for out in outputs if isinstance(out, Tensor) and out.is_floating_point()]

    def _pack(self, tree: Any) -> Any:
        if isinstance(tree, Tensor):
            value = self._call.value(tree)
            if value is None:
                return tree if isinstance(tree, nn.Parameter) else self._call.record.save(tree)
            if value not in self.values:
                self.values.append(value)
                self.saved.append(self._call.record.save(tree) if self._reads else None)
            return _Leaf(self.values.index(value))
        if isinstance(tree, dict):
            return {key: self._pack(item) for key, item in tree.items()}
        if isinstance(tree, (list, tuple)) and not isinstance(tree, torch.Size):
            return type(tree)(self._pack(item) for item in tree)
        return tree

    def _unpack(self, tree: Any, leaves: list[Tensor]) -> Any:
        if isinstance(tree, _Leaf):
            return leaves[tree.index]
        if isinstance(tree, Saved):
            return tree.tensor
        if isinstance(tree, dict):
            return {key: self._unpack(item, leaves) for key, item in tree.items()}
        if isinstance(tree, (list, tuple)) and not isinstance(tree, torch.Size):
            return type(tree)(self._unpack(item, leaves) for item in tree)
        return tree


def _inherit(call: Call, *, keeps_sign: bool) -> None:
    values = list(call.values.values())
    constants = any(
        isinstance(arg, Tensor) and arg.is_floating_point() and call.value(arg) is None for arg in call.args
    )
    for out in call.outputs:
        out.raw = all(value.raw for value in values)
        out.nonnegative = keeps_sign and not constants and all(value.nonnegative for value in values)
        out.gate = keeps_sign and not constants and all(value.gate for value in values)


def _moves(call: Call, *, reads: bool = False, keeps_sign: bool = True) -> Backward | None:
    """Send relevance where the numbers came from: the gradient of copying."""
    _inherit(call, keeps_sign=keeps_sign)
    if keeps_sign and not reads and len(call.values) == 1:
        _carries(call, *call.values.values())
    replay = _Replay(call, reads=reads)

    def backward(rs: Sequence[Tensor | None]) -> list[tuple[Value, Tensor]]:
        leaves, outputs = replay.run()
        pairs = [(out, r) for out, r in zip(outputs, rs, strict=True) if r is not None]
        grads = torch.autograd.grad(
            [out for out, _ in pairs], leaves, [r for _, r in pairs], allow_unused=True
        )
        return [(value, g) for value, g in zip(replay.values, grads, strict=True) if g is not None]

    return backward


def _run_max_pool(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Tensor | None]:
    """Ask for the indices too, which pooling finds anyway, so that it need not be done again."""
    if isinstance(function, FunctionType) and kwargs.get("return_indices") is False:
        result, indices = function(*args, **{**kwargs, "return_indices": True})
        return result, indices
    return function(*args, **kwargs), None


def _max_pool(call: Call) -> Backward | None:
    indices: Tensor | None = call.details
    if indices is None:
        return _moves(call, reads=True)
    _inherit(call, keeps_sign=True)
    (value,) = call.values.values()
    space = int(call.name[len("max_pool")])

    def backward(rs: Sequence[Tensor | None]) -> list[tuple[Value, Tensor]]:
        r = _only(rs)
        out = r.new_zeros(value.shape)
        out.flatten(-space).scatter_add_(-1, indices.flatten(-space), r.flatten(-space))
        return [(value, out)]

    return backward


def _adds(call: Call, *, keeps_sign: bool = True) -> Backward | None:
    """Divide relevance in proportion to summands: R_i = x_i Σ_j w_ij R_j / z_j for z = w x."""
    _inherit(call, keeps_sign=keeps_sign)
    call.outputs[0].gate = False
    return _proportional(call, {})


def _proportional(call: Call, shares: Mapping[Value, float]) -> Backward:
    replay = _Replay(call, reads=True)
    epsilon = call.record.composite.epsilon

    def backward(rs: Sequence[Tensor | None]) -> list[tuple[Value, Tensor]]:
        leaves, (z,) = replay.run()
        taking = [i for i, value in enumerate(replay.values) if shares.get(value, 1.0)]
        q = _only(rs) / stabilised(z.detach(), epsilon)
        grads = torch.autograd.grad(z, [leaves[i] for i in taking], q)
        return [
            (replay.values[i], grad * leaves[i].detach() * shares.get(replay.values[i], 1.0))
            for i, grad in zip(taking, grads, strict=True)
        ]

    return backward


def _scatter_reduce(call: Call) -> Backward | None:
    if call.argument(4, "reduce") in ("sum", "mean", "add"):
        return _adds(call)
    return _moves(call, reads=True)


def _pad(call: Call) -> Backward | None:
    """Like a move, but relevance of the padding, which a flat rule gives it, is spread over what it pads."""
    padding = call.argument(1, "pad")
    filling = call.argument(3, "value")
    moves = _moves(call, keeps_sign=filling is None or filling >= 0)
    if moves is None or call.argument(2, "mode", "constant") != "constant":
        return moves
    dims = tuple(range(-(len(padding) // 2), 0))

    def backward(rs: Sequence[Tensor | None]) -> list[tuple[Value, Tensor]]:
        ((value, kept),) = moves(rs)
        lost = _only(rs).sum(dims, keepdim=True) - kept.sum(dims, keepdim=True)
        return [(value, kept + lost / math.prod(value.shape[dim] for dim in dims))]

    return backward


def _fill(call: Call) -> Backward | None:
    """Overwritten with constants: nothing flows back."""
    return lambda rs: []


def _copy(call: Call) -> Backward | None:
    """``x.copy_(y)``: x is y now."""
    value = call.value(call.argument(1, "src"))
    return _all_to(value) if value is not None else _fill(call)


def _joins(call: Call, *, new_dim: bool) -> Backward | None:
    """Split relevance among the parts; a constant part's (a class token's) is spread over the others.

    Spreading is even, along the dimension of the joint. It changes no order and keeps relevance conserved.
    """
    parts: Sequence[Tensor] = call.argument(0, "tensors")
    _inherit(call, keeps_sign=True)
    values = [call.value(part) for part in parts]
    constant = any(value is None for value in values)
    if constant:
        call.outputs[0].nonnegative = call.outputs[0].gate = False
    dim: int = call.argument(1, "dim", 0)
    sizes = [1 if new_dim else part.shape[dim] for part in parts]

    def backward(rs: Sequence[Tensor | None]) -> list[tuple[Value, Tensor]]:
        pieces: Sequence[Tensor] = torch.split(_only(rs), sizes, dim)
        if constant:
            given = sum(size for size, value in zip(sizes, values, strict=True) if value is not None)
            lost = [
                r.sum(dim, keepdim=True) for r, value in zip(pieces, values, strict=True) if value is None
            ]
            even = torch.cat(lost, dim).sum(dim, keepdim=True) / given
            pieces = tuple(piece + even for piece in pieces)
        return [
            (value, _fit(r.squeeze(dim) if new_dim else r, value))
            for r, value in zip(pieces, values, strict=True)
            if value is not None
        ]

    return backward


# ---- arithmetic --------------------------------------------------------------------------------------------


def _add(call: Call) -> Backward | None:
    a, b = call.argument(0, "input"), call.argument(1, "other")
    alpha: float = call.kwargs.get("alpha", 1)
    left, right = call.value(a), call.value(b)
    out = call.outputs[0]
    if left is None or right is None:
        value = left or right
        assert value is not None
        other = b if left is not None else a
        out.raw = value.raw
        out.gate = value.gate
        out.nonnegative = value.nonnegative and isinstance(other, numbers.Real) and float(other) * alpha >= 0
        _carries(call, value)
        return _all_to(value)
    out.raw = left.raw and right.raw
    out.nonnegative = nonnegative = left.nonnegative and right.nonnegative and alpha >= 0
    composite = call.record.composite
    if composite.addition == "copy":
        return lambda rs: [(left, _fit(_only(rs), left)), (right, _fit(_only(rs), right))]
    save = call.record.save
    first, second = save(a), save(b)

    def backward(rs: Sequence[Tensor | None]) -> list[tuple[Value, Tensor]]:
        a, b = first.tensor, second.tensor
        q = quotient(_only(rs), torch.add(a, b, alpha=alpha), composite.epsilon, nonnegative=nonnegative)
        to_left = q * a
        to_right = q.mul_(b) if alpha == 1 else q.mul_(b).mul_(alpha)
        return [(left, _fit(to_left, left)), (right, _fit(to_right, right))]

    return backward


def _subtract(call: Call) -> Backward | None:
    """What is subtracted is a reference (a mean, the centre of a neighbourhood) and gets nothing.

    In proportion, a / (a - b), two nearly equal operands would get huge relevances of opposite signs.
    """
    a, b = call.argument(0, "input"), call.argument(1, "other")
    if call.name == "rsub":
        a, b = b, a
    value = call.value(a) or call.value(b)
    assert value is not None
    both = call.value(a) is not None and call.value(b) is not None
    call.outputs[0].raw = all(v.raw for v in call.values.values())
    call.outputs[0].gate = value.gate and not both
    if not both:
        _carries(call, value)
    return _all_to(value)


def _multiply(call: Call) -> Backward | None:
    a, b = call.argument(0, "input"), call.argument(1, "other")
    left, right = call.value(a), call.value(b)
    out = call.outputs[0]
    if left is None or right is None:
        value = left or right
        assert value is not None
        other = b if left is not None else a
        out.raw = value.raw
        out.gate = value.gate
        out.nonnegative = value.nonnegative and isinstance(other, numbers.Real) and float(other) >= 0
        _carries(call, value)
        return _all_to(value)
    out.nonnegative = left.nonnegative and right.nonnegative
    out.raw = left.raw and right.raw
    out.gate = left.gate and right.gate
    if left.gate != right.gate:
        return _all_to(right if left.gate else left)
    return lambda rs: [(left, _fit(_only(rs) / 2, left)), (right, _fit(_only(rs) / 2, right))]


def _divide(call: Call) -> Backward | None:
    """The denominator is a constant."""
    a, b = call.argument(0, "input"), call.argument(1, "other")
    value = call.value(a) or call.value(b)
    assert value is not None
    out = call.outputs[0]
    out.raw = value.raw
    out.gate = value.gate
    out.nonnegative = value.nonnegative and isinstance(b, numbers.Real) and float(b) > 0
    if len(call.values) == 1 and call.value(a) is not None:
        _carries(call, value)
    return _all_to(value)


def _product(call: Call) -> Backward | None:
    """Matrix products: gates take nothing, constants are weights, two signals take half each."""
    values = set(call.values.values())
    call.outputs[0].raw = all(value.raw for value in values)
    signals = {value for value in values if not value.gate} or values
    share = 1.0 / len(signals)
    return _proportional(call, {value: share if value in signals else 0.0 for value in values})


def _matmul(call: Call) -> Backward | None:
    x, weight = call.argument(0, "input"), call.argument(1, "other", call.kwargs.get("mat2"))
    if isinstance(weight, nn.Parameter) and weight.dim() == 2 and call.value(x) is not None:
        return _layer(call, "linear", _DENSE, x, weight.mT, None)
    return _product(call)


def _addmm(call: Call) -> Backward | None:
    bias, x, weight = call.args[:3]
    plain = call.kwargs.get("beta", 1) == 1 and call.kwargs.get("alpha", 1) == 1
    if call.value(x) is None or call.value(weight) is not None or call.value(bias) is not None or not plain:
        return None
    return _layer(call, "linear", _DENSE, x, weight.mT, bias if bias.dim() == 1 else None)


def _attention(call: Call) -> Backward | None:
    """Scaled dot-product attention: its weights are constants, so queries and keys get nothing."""
    query, key, v = (call.argument(i, name) for i, name in enumerate(("query", "key", "value")))
    mask = call.argument(3, "attn_mask")
    causal = call.argument(5, "is_causal", False)
    scale = call.kwargs.get("scale")
    grouped = call.kwargs.get("enable_gqa", False)
    value = call.value(v)
    if value is None:
        return _fill(call)
    if call.argument(4, "dropout_p", 0.0):
        return None
    save = call.record.save
    q, k, values, masked = save(query), save(key), save(v), save(mask) if mask is not None else None
    epsilon = call.record.composite.epsilon

    def backward(rs: Sequence[Tensor | None]) -> list[tuple[Value, Tensor]]:
        query, key, v = q.tensor, k.tensor, values.tensor
        repeat = query.shape[-3] // key.shape[-3] if grouped else 1
        if repeat > 1:
            key, v = key.repeat_interleave(repeat, -3), v.repeat_interleave(repeat, -3)
        scores = query @ key.mT * (scale if scale is not None else 1 / math.sqrt(query.shape[-1]))
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf)
        if masked is not None:
            mask = masked.tensor
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        weights = scores.softmax(-1)
        out = v * (weights.mT @ (_only(rs) / stabilised(weights @ v, epsilon)))
        if repeat > 1:
            out = out.reshape(*out.shape[:-3], -1, repeat, *out.shape[-2:]).sum(-3)
        return [(value, _fit(out, value))]

    return backward


# ---- layers ------------------------------------------------------------------------------------------------


def _layer(
    call: Call, kind: Any, linear_map: LinearMap, x: Tensor, weight: Tensor, bias: Tensor | None
) -> Backward | None:
    value = call.value(x)
    if value is None or len(set(call.values.values())) > 1:
        return None  # weights that depend on the input
    record = call.record
    name = record.where() if record.composite.layers else ""
    choose = functools.partial(record.composite.rule, kind, name, first=value.raw)
    usual, last = choose(), choose(last=True)
    output = record.save(call.result) if usual.needs_output or last.needs_output else None
    layer = Layer(linear_map, weight, bias, record.save(x), output, value.nonnegative)
    call.details = layer
    (out,) = call.outputs

    def backward(rs: Sequence[Tensor | None]) -> list[tuple[Value, Tensor]]:
        rule = last if out is record.explained else usual
        return [(value, rule.relevance(layer, _only(rs)))]

    return backward


def _linear(call: Call) -> Backward | None:
    x, weight, bias = call.argument(0, "input"), call.argument(1, "weight"), call.argument(2, "bias")
    return _layer(call, "linear", _DENSE, x, weight, bias)


def _convolution(call: Call, make: Callable[..., LinearMap], options: Sequence[str]) -> Backward | None:
    x, weight, bias = call.argument(0, "input"), call.argument(1, "weight"), call.argument(2, "bias")
    if x.dim() != weight.dim():
        return None
    given = {name: call.argument(i, name) for i, name in enumerate(options, start=3)}
    linear_map = make(weight, **{name: value for name, value in given.items() if value is not None})
    return _layer(call, "conv", linear_map, x, weight, bias)


def _batch_norm(call: Call) -> Backward | None:
    """Part of the layer before it, where that feeds nothing else; else it scales by constants."""
    names = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")
    x, weight, bias, mean, var, training, _, eps = (call.argument(i, name) for i, name in enumerate(names))
    value = call.value(x)
    if value is None:
        return None
    call.outputs[0].raw = value.raw
    if training or mean is None:
        return _all_to(value)  # a norm of the batch: its statistics are constants
    before = value.call
    layer = before.details if before is not None and isinstance(before.details, Layer) else None
    if layer is not None and layer.map.channel_dim == -1 and len(value.shape) != 2:
        layer = None
    composite = call.record.composite
    absorbs = getattr(composite.convolution, "bias", None) == "absorb"
    saved = call.record.save(x) if absorbs else None

    def backward(rs: Sequence[Tensor | None]) -> list[tuple[Value, Tensor]]:
        r = _only(rs)
        scale = torch.rsqrt(var + eps) if weight is None else weight * torch.rsqrt(var + eps)
        shift = -mean * scale if bias is None else bias - mean * scale
        if layer is not None and value.uses == 1:
            layer.scale, layer.shift = scale, shift
        elif saved is not None:
            shape = (-1, *[1] * (len(value.shape) - 2))
            linear = saved.tensor * scale.view(shape)
            r = r * linear / stabilised(linear + shift.view(shape), composite.epsilon)
        return [(value, r)]

    return backward


def _layer_norm(call: Call) -> Backward | None:
    """Linear in its input, with a constant denominator; the bias's share goes by the size of the inputs."""
    names: tuple[str, ...] = ("input", "normalized_shape", "weight", "bias", "eps")
    if call.name == "rms_norm":
        names = ("input", "normalized_shape", "weight", "eps")
    given = {name: call.argument(i, name) for i, name in enumerate(names)}
    value = call.value(given["input"])
    if value is None:
        return None
    call.outputs[0].raw = value.raw
    saved = call.record.save(given["input"])
    dims = tuple(range(-len(given["normalized_shape"]), 0))
    weight, bias, eps = given["weight"], given.get("bias"), given["eps"]
    centred = call.name == "layer_norm"
    epsilon = call.record.composite.epsilon

    def backward(rs: Sequence[Tensor | None]) -> list[tuple[Value, Tensor]]:
        x = saved.tensor
        z = x - x.mean(dims, keepdim=True) if centred else x
        size = torch.finfo(x.dtype).eps if eps is None else eps
        scale = torch.rsqrt(z.square().mean(dims, keepdim=True) + size)
        if weight is not None:
            scale = scale * weight
        y = z * scale if bias is None else z * scale + bias
        q = _only(rs) / stabilised(y, epsilon)
        slope = scale * q
        if centred:
            slope = slope - slope.mean(dims, keepdim=True)
        out = x * slope
        if bias is not None:
            share = x.abs() / stabilised(x.abs().sum(dims, keepdim=True), None, nonnegative=True)
            out = out + share * (q * bias).sum(dims, keepdim=True)
        return [(value, out)]

    return backward


_MAX_POOLS = ("max_pool1d", "max_pool2d", "max_pool3d")

# ---- the table ---------------------------------------------------------------------------------------------


def _table() -> dict[str, Handler]:
    def group(names: str, handler: Callable[..., Backward | None], **options: Any) -> None:
        for name in names.split():
            table[name] = functools.partial(handler, **options) if options else handler

    table: dict[str, Handler] = {}
    plain = ("stride", "padding", "dilation", "groups")
    transposed = ("stride", "padding", "output_padding", "groups", "dilation")
    group(
        "tanh elu selu celu gelu silu mish leaky_relu rrelu prelu softsign hardswish logsigmoid log_sigmoid "
        "tanhshrink hardshrink softshrink threshold neg log log1p log2 log10 expm1 sin cos tan atan asinh "
        "erf erfinv sign nan_to_num group_norm instance_norm pow "
        "float_power",
        _passes,
    )
    group("relu relu6 softplus exp exp2 abs square sqrt", _passes, nonnegative=True)
    group("sigmoid hardsigmoid", _passes, nonnegative=True, gate=True)
    group("rsqrt reciprocal", _passes, gate=True)
    group(
        "dropout alpha_dropout feature_dropout feature_alpha_dropout contiguous clone to type float double "
        "half bfloat16 type_as positive cpu cuda requires_grad data round floor ceil trunc alias",
        _passes,
        keeps_sign=True,
    )
    group("clamp clip clamp_min hardtanh", _clamp)
    group("softmax log_softmax", _softmax)
    group("glu", _glu)
    group(
        "view view_as reshape reshape_as flatten unflatten ravel squeeze unsqueeze permute transpose t T H "
        "mT mH adjoint movedim moveaxis expand expand_as broadcast_to repeat tile repeat_interleave flip "
        "fliplr flipud roll rot90 narrow select getitem index_select gather take take_along_dim chunk split "
        "split_with_sizes tensor_split unsafe_chunk unsafe_split unbind unfold im2col diagonal swapaxes "
        "pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle masked_select as_strided "
        "atleast_1d atleast_2d atleast_3d broadcast_tensors meshgrid upsample_nearest1d upsample_nearest2d "
        "upsample_nearest3d _upsample_nearest_exact1d upsample_nearest_exact1d upsample_nearest_exact2d "
        "upsample_nearest_exact3d reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d "
        "max_unpool2d max_unpool3d tril triu",
        _moves,
    )
    group("setitem where masked_fill masked_scatter index_put index_copy scatter", _moves, keeps_sign=False)
    group("pad", _pad)
    group(
        "max min amax amin maximum minimum fmax fmin topk sort kthvalue median nanmedian mode aminmax "
        "logsumexp max_pool1d_with_indices max_pool2d_with_indices "
        "max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
        "fractional_max_pool2d fractional_max_pool3d adaptive_max_pool1d_with_indices "
        "adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices cummax cummin segment_reduce",
        _moves,
        reads=True,
    )
    group(
        "sum mean nansum nanmean cumsum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
        "adaptive_avg_pool2d adaptive_avg_pool3d scatter_add index_add upsample_linear1d upsample_bilinear2d "
        "upsample_trilinear3d upsample_bilinear2d_aa col2im",
        _adds,
    )
    group("upsample_bicubic2d upsample_bicubic2d_aa", _adds, keeps_sign=False)
    group("grid_sampler grid_sampler_2d grid_sampler_3d", _grid_sample)
    group(" ".join(_MAX_POOLS), _max_pool)
    group("scatter_reduce", _scatter_reduce)
    group("zero fill", _fill)
    group("copy", _copy)
    group("cat", _joins, new_dim=False)
    group("stack", _joins, new_dim=True)
    group("add", _add)
    group("sub rsub", _subtract)
    group("mul", _multiply)
    group("div", _divide)
    group("matmul mm", _matmul)
    group("bmm mv dot inner einsum sparse_mm hspmm bilinear", _product)
    group("addmm", _addmm)
    group("scaled_dot_product_attention", _attention)
    group("linear", _linear)
    group("conv1d conv2d conv3d", _convolution, make=conv_map, options=plain)
    group(
        "conv_transpose1d conv_transpose2d conv_transpose3d",
        _convolution,
        make=conv_transpose_map,
        options=transposed,
    )
    group("batch_norm", _batch_norm)
    group("layer_norm rms_norm", _layer_norm)
    return table


def _grid_sample(call: Call) -> Backward | None:
    """Linear in what is sampled; where it is sampled is a constant."""
    value = call.value(call.argument(0, "input"))
    if value is None:
        return None
    _inherit(call, keeps_sign=False)
    others = {other: 0.0 for other in call.values.values() if other is not value}
    return _proportional(call, others)


HANDLERS: Mapping[str, Handler] = _table()
"""Name of a call to how relevance flows through it."""

RUNNERS: Mapping[str, Runner] = {name: _run_max_pool for name in _MAX_POOLS}
"""Name of a call to how it is made, where that is not as it was written."""

READS_SELF = frozenset(
    {"add", "scatter_add", "index_add", "scatter_reduce", "clamp_min", "maximum", "minimum"}
)
"""Calls whose handlers need what an in-place form of them overwrites."""
