"""Calls that act on positions one by one, along one axis, or on small windows of space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from regathlon_core.subnetworks.dims import Dim
from regathlon_core.subnetworks.interception import FREE, Axes, Axis, Interception, rule, tensors_in

_NAMESPACES = (torch, torch.Tensor, F, torch.special, torch._C._nn, torch._C._VariableFunctions)


def named(names: str, namespaces: Sequence[Any] = _NAMESPACES) -> list[Any]:
    """Return the functions and methods with these names, in place ones too, wherever torch has them."""
    found = []
    for name in names.split():
        for variant in (name, f"{name}_", f"__{name}__", f"__i{name}__", f"__r{name}__"):
            for namespace in namespaces:
                function = getattr(namespace, variant, None)
                if callable(function) and function not in found:
                    found.append(function)
    return found


def getters(names: str) -> list[Any]:
    """Return what reading these attributes of a tensor calls."""
    return [getattr(torch.Tensor, name).__get__ for name in names.split()]


def broadcast(run: Interception, tensors: Sequence[Tensor]) -> Axes:
    """Join the axes of tensors as broadcasting aligns them."""
    shapes = [run.shape(tensor) for tensor in tensors]
    marks = [run.axes(tensor) for tensor in tensors]
    axes: list[Axis] = []
    for back in range(-max(map(len, shapes)), 0):
        here = [
            (shape[back], mark[back])
            for shape, mark in zip(shapes, marks, strict=True)
            if len(shape) >= -back
        ]
        wide = [axis for size, axis in here if size != 1]
        axes.append(run.combine(*wide) if wide else run.combine(*(axis for _, axis in here)))
    return tuple(axes)


def writes(function: Any, kwargs: dict[str, Any]) -> bool:
    """Return whether a call changes its first argument."""
    name = getattr(function, "__name__", "")
    if name.startswith("__"):
        return name.startswith("__i") and name not in ("__invert__", "__index__", "__int__")
    return name.endswith("_") or kwargs.get("inplace") is True


@rule(
    *named(
        "add sub subtract mul multiply div divide true_divide floor_divide floordiv truediv mod fmod remainder pow "
        "rsub rpow rdiv neg pos abs and or xor invert lt le gt ge eq ne greater greater_equal less less_equal "
        "not_equal maximum minimum fmax fmin where clamp clip clamp_min clamp_max lerp addcmul addcdiv atan2 arctan2 "
        "hypot masked_fill logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor "
        "bitwise_not heaviside copysign logaddexp logaddexp2 nextafter xlogy isclose copy ldexp "
        "gcd lcm float_power polar complex xlog1py"
    )
)
def elementwise(run: Interception, function: Any, *args: Any, **kwargs: Any) -> Any:
    """Join the operands as broadcasting does, cut the free ones."""
    if function is torch.where and len(args) == 1:  # the positions of what is not zero
        return whole(run, function, *args)
    tensors = tensors_in((args, kwargs))
    axes = broadcast(run, tensors)
    if writes(function, kwargs):
        target = args[0]
        axes = run.axes(target) if target.dim() < len(axes) else axes
        run.narrow_in_place(target, axes)
    args = tuple(_fit(run, arg, axes) for arg in args)
    kwargs = {name: _fit(run, arg, axes) for name, arg in kwargs.items()}
    return run.put(function(*args, **kwargs), axes)


def _fit(run: Interception, arg: Any, axes: Axes) -> Any:
    return run.fit(arg, axes) if isinstance(arg, Tensor) else arg


@rule(*named("prelu", [torch, torch.Tensor, F]))
def prelu(run: Interception, function: Any, input: Tensor, weight: Tensor) -> Any:
    """Leak by a slope per channel (axis 1), or by one for all."""
    axes = list(run.axes(input))
    if weight.numel() > 1:
        axes[1] = run.combine(axes[1], run.axes(weight)[0])
        weight = run.fit(weight, axes[1:2])
    return run.put(function(input, weight), axes)


@rule(
    *named(
        "relu relu6 leaky_relu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh hardshrink softshrink "
        "tanhshrink softplus softsign rrelu threshold sigmoid logsigmoid tanh sin cos tan asin acos atan sinh cosh "
        "asinh acosh atanh exp exp2 expm1 log log2 log10 log1p sqrt rsqrt square reciprocal sign signbit floor ceil "
        "round trunc frac erf erfc erfinv lgamma digamma sinc nan_to_num isnan isinf isfinite isposinf isneginf "
        "absolute negative positive angle deg2rad rad2deg logit expit i0 sgn conj resolve_conj resolve_neg "
        "softmax log_softmax softmin cumsum cumprod logcumsumexp gumbel_softmax normalize local_response_norm "
        "dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout bernoulli "
        "clone contiguous detach requires_grad to float double half bfloat16 int long short bool type type_as cpu "
        "cuda zeros_like ones_like empty_like full_like rand_like randn_like randint_like zero fill "
        "uniform normal exponential log_normal cauchy geometric random pin_memory"
    ),
    *getters("data real imag"),
)
def same(run: Interception, function: Any, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Keep the axes of the first argument."""
    return run.put(function(input, *args, **kwargs), run.axes(input))


@rule(*named("flip", [torch, torch.Tensor]))
def flip(run: Interception, function: Any, input: Tensor, *dims: Any, **kwargs: Any) -> Any:
    """Reverse axes, which stay whole."""
    return _moving(run, function, input, listed(kwargs.get("dims", dims)), dims, kwargs)


@rule(*named("roll rot90", [torch, torch.Tensor]))
def roll(run: Interception, function: Any, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Shift or turn axes, which stay whole; without ``dims`` all of them."""
    dims = kwargs.get("dims", args[1] if len(args) > 1 else range(input.dim()))
    return _moving(run, function, input, listed(dims), args, kwargs)


@rule(*named("tril triu", [torch, torch.Tensor]))
def triangle(run: Interception, function: Any, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Keep a triangle of the last two axes, which stay whole."""
    return _moving(run, function, input, [-2, -1], args, kwargs)


def _moving(run: Interception, function: Any, input: Tensor, dims: Any, args: Any, kwargs: Any) -> Any:
    axes = run.axes(input)
    run.whole(*(axes[at] for at in dims))
    return run.put(function(input, *args, **kwargs), axes)


def listed(value: Any) -> list[int]:
    """Return one or several integers as a list: 1, (1, 2) or ((1, 2),)."""
    if isinstance(value, int):
        return [value]
    value = list(value)
    return listed(value[0]) if len(value) == 1 and not isinstance(value[0], int) else value


@rule(*named("new_zeros new_ones new_empty new_full new_tensor", [torch.Tensor]))
def constant(run: Interception, function: Any, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Make a constant of a given full-width shape."""
    out = function(input, *args, **kwargs)
    return run.put(out, [FREE] * out.dim())


# ---- reductions --------------------------------------------------------------------------------------------


@rule(
    *named(
        "sum mean amax amin max min aminmax norm std var var_mean std_mean logsumexp prod all any median nansum "
        "nanmean count_nonzero argmax argmin",
        [torch, torch.Tensor],
    ),
    torch.linalg.norm,
    torch.linalg.vector_norm,
)
def reduction(run: Interception, function: Any, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Reduce over the positions that are kept, as a smaller model does; found indices are full-width positions."""
    name = function.__name__
    if name in ("max", "min") and tensors_in((args, kwargs)):  # of two tensors
        return elementwise(run, function, input, *args, **kwargs)
    out = function(input, *args, **kwargs)
    place = 1 if "norm" in name else 0
    given = kwargs.get("dim", kwargs.get("axis", args[place] if len(args) > place else None))
    if isinstance(given, (bool, torch.dtype)) or given is None or given == ():
        reduced = set(range(input.dim()))
    else:
        reduced = {at % input.dim() for at in listed(given)}
    axes = run.axes(input)
    along = [axes[at] for at in reduced] if name in ("max", "min", "median", "argmax", "argmin") else []
    results = [_full_positions(run, tensor, along) for tensor in tensors_in(out)]
    for tensor in results:
        if tensor.dim() == input.dim():
            run.put(tensor, [None if at in reduced else axis for at, axis in enumerate(axes)])
        else:
            run.put(tensor, [axis for at, axis in enumerate(axes) if at not in reduced])
    return results[0] if isinstance(out, Tensor) else type(out)(results)


def _full_positions(run: Interception, found: Tensor, axes: Sequence[Axis]) -> Tensor:
    """Translate positions found along a narrow axis to those of the full-width one."""
    axis = axes[0] if len(axes) == 1 else None
    if found.dtype == torch.int64 and isinstance(axis, Dim) and run.widths is not None:
        return run.positions(axis, found.device)[found]
    return found


# ---- windows of space --------------------------------------------------------------------------------------


def _pool_rule(spatial: int) -> Any:
    def pool(run: Interception, function: Any, input: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Pool over the last axes, which stay whole."""
        axes = run.axes(input)
        run.whole(*axes[-spatial:])
        others = [tensor for tensor in tensors_in((args, kwargs)) if tensor.dim() == input.dim()]
        if others:  # indices of an unpooling
            axes = broadcast(run, [input, *others])
        out = function(input, *args, **kwargs)
        for tensor in tensors_in(out):
            run.put(tensor, (*axes[:-spatial], *[None] * spatial))
        return out

    return pool


for _spatial in (1, 2, 3):
    _names = "max_pool avg_pool adaptive_avg_pool adaptive_max_pool lp_pool max_unpool fractional_max_pool"
    _functions = named(" ".join(f"{name}{_spatial}d" for name in _names.split()), [torch, F, torch._C._nn])
    _functions += [
        getattr(F, f"{name}{_spatial}d_with_indices", None)
        for name in ("max_pool", "adaptive_max_pool", "fractional_max_pool")
    ]
    rule(*_functions)(_pool_rule(_spatial))


@rule(F.interpolate, F.upsample, F.upsample_nearest, F.upsample_bilinear)
def resize(run: Interception, function: Any, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Resize the axes after the channels, which stay whole."""
    axes = run.axes(input)
    run.whole(*axes[2:])
    return run.put(function(input, *args, **kwargs), (*axes[:2], *[None] * (input.dim() - 2)))


@rule(F.grid_sample, torch.grid_sampler)
def sample(run: Interception, function: Any, input: Tensor, grid: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Sample space at the points of a grid [B, *spatial, 2 or 3]."""
    axes, points = run.axes(input), run.axes(grid)
    run.whole(*axes[2:], *points)
    return run.put(function(input, grid, *args, **kwargs), (*axes[:2], *[None] * (input.dim() - 2)))


@rule(F.unfold)
def patches(run: Interception, function: Any, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Unfold windows into channels: [B, C, H, W] to [B, C · window, L]."""
    axes = run.axes(input)
    run.whole(*axes[-2:])
    out = function(input, *args, **kwargs)
    window = out.shape[-2] // input.shape[-3]
    channels = run.merge([axes[-3], None], [run.shape(input)[-3], window])
    return run.put(out, (*axes[:-3], channels, None))


@rule(F.fold)
def unpatched(run: Interception, function: Any, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Fold windows back into space: [B, C · window, L] to [B, C, H, W]."""
    axes = run.axes(input)
    run.whole(axes[-1])
    out = function(input, *args, **kwargs)
    window = input.shape[-2] // out.shape[-3]
    channels, inside = run.split(axes[-2], [run.shape(input)[-2] // window, window])
    run.whole(inside)
    return run.put(out, (*axes[:-2], channels, None, None))


@rule(
    *named(
        "topk sort argsort kthvalue mode cummax cummin unique histc bincount nonzero equal allclose tolist numpy "
        "masked_select multinomial quantile nanquantile cdist diagonal diag diag_embed trace outer ger kron "
        "corrcoef cov index_put masked_scatter one_hot searchsorted bucketize",
        [torch, torch.Tensor, F],
    ),
    torch.Tensor.tolist,
    torch.Tensor.numpy,
    *named(
        "cross_entropy nll_loss binary_cross_entropy binary_cross_entropy_with_logits mse_loss l1_loss "
        "smooth_l1_loss huber_loss kl_div poisson_nll_loss gaussian_nll_loss triplet_margin_loss "
        "cosine_embedding_loss margin_ranking_loss hinge_embedding_loss multi_margin_loss soft_margin_loss "
        "multilabel_margin_loss multilabel_soft_margin_loss ctc_loss",
        [torch, F],
    ),
)
def whole(run: Interception, function: Any, *args: Any, **kwargs: Any) -> Any:
    """Keep the arguments whole along every axis."""
    for tensor in tensors_in((args, kwargs)):
        run.whole(*run.axes(tensor))
    out = function(*args, **kwargs)
    for tensor in tensors_in(out):
        run.put(tensor, [None] * tensor.dim())
    return out
