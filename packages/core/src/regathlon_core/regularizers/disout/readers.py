"""Which layer reads a feature map: found by following the map through one pass of the model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from regathlon_core.features import FeaturePoint, hook_point
from regathlon_core.passes import PassRole, run_as
from regathlon_core.subnetworks.running import borrowed_buffers, random_state


@dataclass(frozen=True)
class Reader:
    """A convolution or linear layer that reads a feature map, perhaps among others.

    Attributes:
        weight: Its parameter, [out, in / groups, *kernel].
        groups: Of the convolution.
        start: Its first input channel that belongs to the map.
        channels: How many do.
    """

    weight: Tensor
    groups: int
    start: int
    channels: int

    def of_map(self, per_channel: Tensor) -> Tensor:
        """Return the part of a value per input channel of the layer that belongs to the map."""
        return per_channel[self.start : self.start + self.channels]


def find_readers(
    model: nn.Module, points: Sequence[FeaturePoint], run: Callable[[], object]
) -> Mapping[str, Reader]:
    """Return the first convolution or linear layer that reads each feature map, where there is one.

    A map is followed through every call that keeps its channels, and through concatenations; so through norms,
    activations, pooling and residual sums, however the model is written. Layers whose weight is no parameter of
    the model but computed from some (weight norm) are passed over.

    Args:
        model: The model; nothing in it moves.
        points: Where the maps are.
        run: Runs it once.
    """
    follow = _Follow({id(parameter) for parameter in model.parameters()})
    hooks = [
        hook for point in points for hook in hook_point(model, point, functools.partial(follow.start, point))
    ]
    give_back = random_state()
    try:
        with torch.no_grad(), run_as(model, PassRole.PROBE), borrowed_buffers(model), follow:
            run()
    finally:
        give_back()
        for hook in hooks:
            hook.remove()
    return follow.found


class _Follow(TorchFunctionMode):
    """Knows of every tensor which maps its channels come from."""

    def __init__(self, parameters: set[int]) -> None:
        super().__init__()
        self.found: dict[str, Reader] = {}
        self._parameters = parameters
        self._maps: dict[int, tuple[Tensor, _Maps]] = {}  # the tensors are kept, so that their ids are theirs

    def start(self, point: FeaturePoint, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        """Begin with a map; as a hook of its point."""
        if point.side == "skip":  # a tensor of its own, so that its reader is not the main branch's
            output = output.view_as(output)
        channels = output.shape[1 if point.layout == "channels_first" else -1]
        own = _Maps(channels, {point.name: (0, channels)})
        self._put(output, _merged([self._of(output), own]))
        return output

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func in _LAYERS:
            self._read(func, *args, **kwargs)
        elif func is F.multi_head_attention_forward:
            self._read(F.linear, args[0], args[5])  # queries, keys and values are projected inside
        elif isinstance(out, Tensor) and func not in _PRODUCTS:
            if func in _JOINS:
                maps = self._joined(args[0], args[1] if len(args) > 1 else kwargs.get("dim", 0))
            else:
                maps = _merged([self._of(arg) for arg in args if isinstance(arg, Tensor)])
            if maps.starts and maps.channels in out.shape[1:]:
                self._put(out, maps)
        return out

    def _read(self, func: Any, x: Tensor, weight: Tensor | None, *args: Any, **kwargs: Any) -> None:
        maps = self._of(x)
        groups = 1 if func is F.linear else args[4] if len(args) > 4 else kwargs.get("groups", 1)
        if weight is None or id(weight) not in self._parameters or weight.shape[1] * groups != maps.channels:
            return
        for name, (start, channels) in maps.starts.items():
            self.found.setdefault(name, Reader(weight, groups, start, channels))

    def _joined(self, parts: Sequence[Tensor], axis: int) -> _Maps:
        starts: dict[str, tuple[int, int]] = {}
        at = 0
        for part in parts:
            maps = self._of(part)
            if maps.channels == part.shape[axis]:
                starts |= {name: (at + start, channels) for name, (start, channels) in maps.starts.items()}
            at += part.shape[axis]
        return _Maps(at, starts)

    def _of(self, tensor: Tensor) -> _Maps:
        return self._maps.get(id(tensor), (tensor, _Maps(0, {})))[1]

    def _put(self, tensor: Tensor, maps: _Maps) -> None:
        self._maps[id(tensor)] = tensor, maps


@dataclass(frozen=True)
class _Maps:
    """The channels of a tensor, and the feature maps among them: first channel and number by name."""

    channels: int
    starts: Mapping[str, tuple[int, int]]


def _merged(parts: Sequence[_Maps]) -> _Maps:
    """Return the maps in a tensor made of several, which lie side by side in none of them."""
    channels = max((part.channels for part in parts), default=0)
    starts: dict[str, tuple[int, int]] = {}
    for part in parts:
        if part.channels == channels:
            starts |= part.starts
    return _Maps(channels, starts)


_LAYERS = {F.linear, F.conv1d, F.conv2d, F.conv3d, torch.conv1d, torch.conv2d, torch.conv3d}
_PRODUCTS = {torch.matmul, torch.bmm, torch.mm, torch.einsum, Tensor.matmul, Tensor.__matmul__, Tensor.bmm}
_JOINS = {torch.cat, torch.concat}
