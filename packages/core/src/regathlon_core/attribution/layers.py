"""Linear layers as relevance rules see them: a map, its adjoint, and the batch-norm behind it merged in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Saved:
    """A tensor kept for the way back; replaced by a copy when something is about to overwrite it in place."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class LinearMap(Protocol):
    """The bilinear part of a layer: input and weight to output, without the bias."""

    channel_dim: int
    """Dimension of the output along which bias and batch-norm act."""

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the output for an input [B, ...]."""
        ...

    def adjoint(self, r: Tensor, weight: Tensor, like: Tensor) -> Tensor:
        """Return the transposed map of ``r``, which has the output's shape; ``like`` has the input's."""
        ...

    def scaled(self, weight: Tensor, scale: Tensor) -> Tensor:
        """Return the weight whose outputs are ``scale`` [C_out] times as large."""
        ...

    def spread(self, r: Tensor, weight: Tensor, like: Tensor) -> Tensor:
        """Return ``r`` with every output's share divided evenly among the inputs that it sees."""
        ...


class DenseMap:
    """A fully connected layer on the last dimension; weight [C_out, C_in]."""

    channel_dim = -1

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """See ``LinearMap``."""
        return F.linear(x, weight)

    def adjoint(self, r: Tensor, weight: Tensor, like: Tensor) -> Tensor:
        """See ``LinearMap``."""
        return r @ weight

    def scaled(self, weight: Tensor, scale: Tensor) -> Tensor:
        """See ``LinearMap``."""
        return weight * scale[:, None]

    def spread(self, r: Tensor, weight: Tensor, like: Tensor) -> Tensor:
        """See ``LinearMap``."""
        return (r.sum(-1, keepdim=True) / like.shape[-1]).expand(like.shape)


@dataclass(frozen=True)
class ConvMap:
    """A convolution in any number of dimensions, plain, grouped, dilated or transposed.

    Attributes:
        stride: One number per spatial dimension, as are the following.
        padding: Zeros added on both sides.
        dilation: Distance of kernel taps.
        groups: Number of channel groups.
        transposed: Whether it is a transposed convolution (weight [C_in, C_out / groups, *kernel]).
        output_padding: Of a transposed convolution.
        extra: Further zeros at the end of every dimension, for ``padding="same"`` with an even kernel.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    transposed: bool = False
    output_padding: tuple[int, ...] = ()
    extra: tuple[int, ...] = ()
    channel_dim: int = field(default=1, init=False)

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """See ``LinearMap``."""
        return torch.convolution(
            self._padded(x),
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding or (0,) * len(self.stride),
            self.groups,
        )

    def adjoint(self, r: Tensor, weight: Tensor, like: Tensor) -> Tensor:
        """See ``LinearMap``."""
        grad: Tensor = torch.ops.aten.convolution_backward(
            r,
            self._padded(like),
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding or (0,) * len(self.stride),
            self.groups,
            [True, False, False],
        )[0]
        for dim, extra in enumerate(self.extra, start=2):
            grad = grad.narrow(dim, 0, grad.shape[dim] - extra)
        return grad

    def scaled(self, weight: Tensor, scale: Tensor) -> Tensor:
        """See ``LinearMap``."""
        if not self.transposed:
            return weight * scale.view(-1, *[1] * (weight.dim() - 1))
        grouped = weight.reshape(self.groups, -1, *weight.shape[1:])
        return (grouped * scale.view(self.groups, 1, -1, *[1] * (weight.dim() - 2))).flatten(0, 1)

    def spread(self, r: Tensor, weight: Tensor, like: Tensor) -> Tensor:
        """See ``LinearMap``.

        All channels of a group get the same share, so one channel per group is convolved with a box.
        """
        space = like.shape[2:]
        outputs = r.reshape(r.shape[0] * self.groups, -1, *r.shape[2:]).sum(1, keepdim=True)
        one = like.new_ones((1, 1, *space))
        box = weight.new_ones((1, 1, *weight.shape[2:]))
        single = ConvMap(
            self.stride, self.padding, self.dilation, 1, self.transposed, self.output_padding, self.extra
        )
        channels = like.shape[1] // self.groups
        # A transposed convolution with a stride above its kernel has outputs that see no input.
        shares = outputs / (single.apply(one, box) * channels).clamp_(min=1)
        inputs = single.adjoint(shares, box, like.new_empty((1, 1, 1)).expand(outputs.shape[0], 1, *space))
        inputs = inputs.reshape(-1, self.groups, 1, *space)
        return inputs.expand(-1, -1, channels, *space).flatten(1, 2)

    def _padded(self, x: Tensor) -> Tensor:
        if not any(self.extra):
            return x
        return F.pad(x, [size for extra in reversed(self.extra) for size in (0, extra)])


def per_dimension(value: int | Sequence[int], dimensions: int) -> tuple[int, ...]:
    """Return one number per dimension."""
    if isinstance(value, int):
        return (value,) * dimensions
    return tuple(value) * dimensions if len(value) == 1 else tuple(value)


def conv_map(
    weight: Tensor,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> ConvMap:
    """Return the map of ``torch.nn.functional.conv1d`` to ``conv3d``."""
    n = weight.dim() - 2
    dilation = per_dimension(dilation, n)
    extra: tuple[int, ...] = ()
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        padding = tuple(t // 2 for t in total)
        extra = tuple(t % 2 for t in total)
    elif isinstance(padding, str):  # "valid"
        padding = 0
    return ConvMap(per_dimension(stride, n), per_dimension(padding, n), dilation, groups, extra=extra)


def conv_transpose_map(
    weight: Tensor,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> ConvMap:
    """Return the map of ``torch.nn.functional.conv_transpose1d`` to ``conv_transpose3d``."""
    n = weight.dim() - 2
    return ConvMap(
        per_dimension(stride, n),
        per_dimension(padding, n),
        per_dimension(dilation, n),
        groups,
        transposed=True,
        output_padding=per_dimension(output_padding, n),
    )


@dataclass
class Layer:
    """One call of a linear layer as the forward pass made it, with the batch-norm behind it merged in.

    Attributes:
        map: What it computes.
        weight: Its weight as called.
        bias: Its bias as called, or None.
        saved_input: Its input.
        saved_output: Its output, bias included; None unless the rule asked for it.
        nonnegative: Whether the input is known to hold no negative number.
        scale: What a merged batch-norm multiplies by, [C_out], or None.
        shift: What a merged batch-norm adds after that, [C_out].
    """

    map: LinearMap
    weight: Tensor
    bias: Tensor | None
    saved_input: Saved
    saved_output: Saved | None
    nonnegative: bool
    scale: Tensor | None = None
    shift: Tensor | None = None

    @property
    def input(self) -> Tensor:
        """Its input."""
        return self.saved_input.tensor

    def merged_weight(self) -> Tensor:
        """Return the weight with the batch-norm in it."""
        return self.weight if self.scale is None else self.map.scaled(self.weight, self.scale)

    def weight_part(self, *, positive: bool, leak: float = 0.0) -> Tensor:
        """Return one sign's entries of the merged weight; others with their sign turned, times ``leak``."""
        weight = self.merged_weight()
        if weight is self.weight:
            weight = weight.clone()
        if positive:
            return F.leaky_relu_(weight, -leak)
        return F.leaky_relu_(weight.neg_(), -leak).neg_()

    def merged_adjoint(self, r: Tensor) -> Tensor:
        """Return the transposed map of ``r`` with the merged weight; scales whichever is smaller."""
        if self.scale is not None and r.numel() < self.weight.numel():
            return self.adjoint(r * self.along_channels(self.scale, r), self.weight)
        return self.adjoint(r, self.merged_weight())

    def merged_bias(self) -> Tensor | None:
        """Return the bias with the batch-norm in it, [C_out]."""
        if self.scale is None:
            return self.bias
        assert self.shift is not None
        return self.shift if self.bias is None else torch.addcmul(self.shift, self.bias, self.scale)

    def merged_output(self, *, bias: bool) -> Tensor:
        """Return the output behind the batch-norm, with or without the bias, as a tensor of one's own."""
        if self.saved_output is None:
            z = self.map.apply(self.input, self.merged_weight())
            offset = self.merged_bias() if bias else None
            return z if offset is None else z.add_(self.along_channels(offset, z))
        z = self.saved_output.tensor
        if self.scale is not None:
            assert self.shift is not None
            scale = self.along_channels(self.scale, z)
            if bias:
                return torch.addcmul(self.along_channels(self.shift, z), z, scale)
            return z * scale if self.bias is None else (z - self.along_channels(self.bias, z)).mul_(scale)
        if bias or self.bias is None:
            return z.clone()
        return z - self.along_channels(self.bias, z)

    def along_channels(self, vector: Tensor, z: Tensor) -> Tensor:
        """Return a vector [C_out] in a shape that broadcasts with the output."""
        if self.map.channel_dim == -1:
            return vector
        return vector.view(-1, *[1] * (z.dim() - 2))

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the map of ``x`` with another weight."""
        return self.map.apply(x, weight)

    def adjoint(self, r: Tensor, weight: Tensor) -> Tensor:
        """Return the transposed map of ``r`` with a weight."""
        return self.map.adjoint(r, weight, self.input)
