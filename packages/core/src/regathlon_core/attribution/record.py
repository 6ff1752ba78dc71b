"""Recording a forward pass as the sequence of torch calls that the input's relevance can flow back through.

A ``TorchFunctionMode`` sees every call of the torch API: modules and functions, operators and methods, in
place or not. Nothing is put on the model.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from regathlon_core.attribution.composites import Composite
from regathlon_core.attribution.layers import Saved
from regathlon_core.callers import running_module
from regathlon_core.errors import UserError

Backward = Callable[[Sequence[Tensor | None]], Iterable[tuple["Value", Tensor]]]
"""Relevance of a call's outputs to relevance of its inputs."""


class Value:
    """A floating-point tensor that depends on the input, at one moment of the forward pass.

    Attributes:
        call: What made it; None for the input itself.
        shape: Its shape.
        dtype: Its type.
        device: Where it lies.
        nonnegative: Whether it is known to hold no negative number.
        gate: Whether it only weighs something else: a softmax, a sigmoid, a norm's denominator.
        raw: Whether no layer with weights lies between the input and it.
        uses: How many recorded calls read it.
        relevance: What has flowed back to it so far.
        carries: The value that it is but for a scale, a constant or another shape; None where it is more than that.
    """

    __slots__ = (
        "call",
        "carries",
        "device",
        "dtype",
        "gate",
        "nonnegative",
        "raw",
        "relevance",
        "saved",
        "shape",
        "uses",
        "version",
    )

    def __init__(self, tensor: Tensor, call: Call | None) -> None:
        self.call = call
        self.shape = tensor.shape
        self.dtype = tensor.dtype
        self.device = tensor.device
        self.version = _version(tensor)
        self.nonnegative = self.gate = False
        self.raw = call is None
        self.uses = 0
        self.relevance: Tensor | None = None
        self.carries: Value | None = None
        self.saved: Saved | None = None

    def receive(self, relevance: Tensor) -> None:
        """Add relevance that flowed back."""
        self.relevance = relevance if self.relevance is None else self.relevance + relevance


class Call:
    """One call of the torch API with an input that relevance may flow back to.

    Attributes:
        name: What was called, whichever way it was written: ``"add"`` for +, +=, ``torch.add`` and
            ``Tensor.add_``.
        function: What to call to do the same out of place.
        args: Its arguments; where the call changes the first one, that is as it was before.
        kwargs: Its keyword arguments.
        record: The record that it belongs to.
        values: For each tensor argument that depends on the input, by the tensor's id, what it was.
        result: What it returned.
        outputs: The tensors in the result that depend on the input.
        backward: How relevance flows through it; None where nobody knows.
        layer: Dotted name of the module that called it, where ``backward`` is None.
        details: What the handlers of other calls may ask of this one.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        record: Record,
        values: dict[int, Value],
    ) -> None:
        self.name = name
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.record = record
        self.values = values
        self.result: Any = None
        self.outputs: list[Value] = []
        self.backward: Backward | None = None
        self.layer = ""
        self.details: Any = None

    def value(self, argument: Any) -> Value | None:
        """Return what is known of an argument; None where it does not depend on the input."""
        return self.values.get(id(argument)) if isinstance(argument, Tensor) else None

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument given either way."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)


Handler = Callable[[Call], Backward | None]
"""Looks at a call that has just been made and says how relevance flows back through it."""

Runner = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], tuple[Any, Any]]
"""Makes a call in a way that also tells what the way back needs: its result, and ``Call.details``."""

_SHAPED_LIKE = ("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like")
_CONSTANTS = frozenset(
    ("detach", *_SHAPED_LIKE, "new_zeros", "new_ones", "new_empty", "new_full", "new_tensor")
)
"""Calls whose results depend on no more than the shape of what they are given, or that say so."""

_RENAMED = {
    "truediv": "div",
    "true_divide": "div",
    "divide": "div",
    "multiply": "mul",
    "subtract": "sub",
    "negative": "neg",
    "absolute": "abs",
    "arctan": "atan",
    "concat": "cat",
    "concatenate": "cat",
    "swapaxes": "transpose",
    "swapdims": "transpose",
}


class Record(TorchFunctionMode):
    """The calls of a forward pass, in order.

    ``source`` is what is known of the input; ``explained``, to be set before walking back, of the last layer's outputs.

    Args:
        model: The model, for the names of its layers.
        composite: Rules of its layers.
        handlers: What to do for each name of a call.
        runners: How to make calls that can tell more than their result; others are made as they are.
        reads_self: Names of calls whose handlers need the values that an in-place call overwrites.
    """

    def __init__(
        self,
        model: nn.Module,
        composite: Composite,
        handlers: Mapping[str, Handler],
        runners: Mapping[str, Runner],
        reads_self: frozenset[str],
    ) -> None:
        super().__init__()
        self.composite = composite
        self.calls: list[Call] = []
        self.source: Value | None = None
        self.explained: Value | None = None
        self._handlers = handlers
        self._runners = runners
        self._reads_self = reads_self
        self._names = {id(module): name for name, module in model.named_modules()}
        self._values: dict[int, tuple[weakref.ref[Tensor], Value]] = {}
        self._saved: dict[int, list[Saved]] = {}
        self._filled: dict[int, Tensor] = {}
        self._expanding: FunctionType | None = None

    # ---- what the handlers ask -----------------------------------------------------------------------------

    def watch(self, tensor: Tensor) -> None:
        """Take a tensor as the input that relevance is asked for."""
        self.source = Value(tensor, None)
        self._values[id(tensor)] = weakref.ref(tensor), self.source

    def value(self, tensor: Tensor) -> Value | None:
        """Return what is known of a tensor; None where it does not depend on the input.

        Raises:
            UserError: It was changed in place through another tensor that shares its memory.
        """
        entry = self._values.get(id(tensor))
        if entry is None or entry[0]() is not tensor:
            if self._filled and _storage(tensor) in self._filled:
                raise self._aliased()
            return None
        if entry[1].version != _version(tensor):
            raise self._aliased()
        return entry[1]

    def save(self, tensor: Tensor) -> Saved:
        """Keep a tensor's present contents for the way back, whatever is written into it later."""
        entry = self._values.get(id(tensor))
        value = entry[1] if entry is not None and entry[0]() is tensor else None
        if value is not None and value.saved is not None:
            return value.saved
        saved = Saved(tensor)
        if value is not None:
            value.saved = saved
        self._saved.setdefault(_storage(tensor), []).append(saved)
        return saved

    def where(self) -> str:
        """Return the dotted name of the innermost module that is running, or an empty string."""
        return running_module(self._names)

    # ---- recording -----------------------------------------------------------------------------------------

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        # Some doubles call the method that they overrode, which reports itself under the same name once more.
        if isinstance(func, FunctionType) and func is not self._expanding:
            double = _double(func)
            if double is not None:
                outer, self._expanding = self._expanding, func
                try:
                    with self:
                        return double(*args, **kwargs)
                finally:
                    self._expanding = outer
        name, in_place = _name(func)
        if in_place:
            return self._run_in_place(func, name, args, kwargs)
        if kwargs.get("out") is not None:
            raise UserError(
                f"{self.where() or 'The model'} calls {name}(out=...), which relevance cannot follow."
            )
        runner = self._runners.get(name)
        result, details = runner(func, args, kwargs) if runner else (func(*args, **kwargs), None)
        outputs = [t for t in _tensors(result) if t.is_floating_point()]
        if not outputs:
            return result
        values = self._inputs(args, kwargs)
        if not values or name in _CONSTANTS:
            return result
        if len(outputs) == 1 and id(outputs[0]) in values:  # returned its argument: dropout in evaluation
            return result
        call = Call(name, func, args, kwargs, self, values)
        call.details = details
        self._add(call, result, outputs)
        return result

    def _run_in_place(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        target: Tensor = args[0]
        if not target.is_floating_point():
            return func(*args, **kwargs)
        values = self._inputs(args[1:], kwargs)
        own = self._own_value(target, args, name)
        if own is not None:
            values[id(target)] = own
        before = args
        if values and name in self._reads_self:
            snapshot = target.clone()
            before = tuple(snapshot if arg is target else arg for arg in args)
            if own is not None:
                values[id(snapshot)] = own
        for saved in self._saved.pop(_storage(target), ()):
            saved.tensor = saved.tensor.clone()
        result = func(*args, **kwargs)
        if not values:
            return result
        if own is None and target._is_view():
            # Other tensors of this memory, its base among them, now hold what depends on the input unknown to
            # us.
            self._filled[_storage(target)] = target
        self._add(Call(name, _out_of_place(func, name), before, kwargs, self, values), target, [target])
        return result

    def _own_value(self, target: Tensor, args: tuple[Any, ...], name: str) -> Value | None:
        entry = self._values.get(id(target))
        if name == "setitem" and isinstance(args[2], Tensor):
            # Python writes `x[i] += y` back as x[i] = tmp, where tmp is a view of x that has just been
            # changed.
            written = self._values.get(id(args[2]))
            same_memory = _storage(args[2]) == _storage(target)
            if written is not None and same_memory and written[1].version == _version(target):
                self._filled.pop(_storage(target), None)
                return entry[1] if entry is not None and entry[0]() is target else None
        return self.value(target)

    def _inputs(self, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[int, Value]:
        found = {}
        for tensor in _tensors((args, kwargs)):
            if tensor.is_floating_point():
                value = self.value(tensor)
                if value is not None:
                    found[id(tensor)] = value
        return found

    def _add(self, call: Call, result: Any, outputs: list[Tensor]) -> None:
        for value in set(call.values.values()):
            value.uses += 1
        call.result = result
        call.outputs = [Value(tensor, call) for tensor in outputs]
        for tensor, value in zip(outputs, call.outputs, strict=True):
            self._values[id(tensor)] = weakref.ref(tensor), value
        handler = self._handlers.get(call.name)
        if handler is not None:
            call.backward = handler(call)
        if call.backward is None:
            call.layer = self.where()
        # The handler has taken what it needs; anything else would only keep memory.
        call.args, call.kwargs, call.result = (), {}, None
        call.values = {}
        self.calls.append(call)

    def _aliased(self) -> UserError:
        return UserError(
            f"In {self.where() or 'the model'} a tensor is read after part of it was overwritten in "
            f"place through another tensor that shares its memory (a view). Relevance cannot follow that; "
            f"assign to the tensor itself (x[...] = y) or build a new one."
        )


@functools.cache
def _double(func: FunctionType) -> FunctionType | None:
    """Return a torch function written in Python, such that the calls inside it come to the mode one by one.

    Such a function first asks whether a mode wants it whole; its double hears no, and then runs the same
    code. None where it does not ask.
    """
    asks = [key for key in func.__globals__ if key.startswith("has_torch_function")]
    if not asks:
        return None
    scope = {**func.__globals__, **dict.fromkeys(asks, lambda *args: False)}
    double = FunctionType(func.__code__, scope, func.__name__, func.__defaults__, func.__closure__)
    double.__kwdefaults__ = func.__kwdefaults__
    return double


def _name(func: Callable[..., Any]) -> tuple[str, bool]:
    """Return what a function does, whichever way it is written, and whether it changes its first argument."""
    name: str = func.__name__
    if name == "__get__":  # a property: x.T, x.data
        return str(func.__self__.__name__), False  # type: ignore[attr-defined]
    in_place = name.endswith("_") and not name.endswith("__")
    if name.startswith("__"):
        name = name.strip("_")
        in_place = name == "setitem"
        if name[:1] == "i" and name[1:] in ("add", "sub", "mul", "truediv", "div", "pow", "matmul"):
            name, in_place = name[1:], True
        elif name in ("radd", "rmul"):
            name = name[1:]
    name = name.strip("_")
    return _RENAMED.get(name, name), in_place


def _out_of_place(func: Callable[..., Any], name: str) -> Callable[..., Any]:
    if name == "setitem":
        return _setitem
    found: Callable[..., Any] | None = getattr(Tensor, name, None) or getattr(torch, name, None)
    return found if found is not None else func


def _setitem(x: Tensor, index: Any, value: Any) -> Tensor:
    out = x.clone()
    out[index] = value
    return out


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            yield from _tensors(item)
    elif isinstance(tree, dict):
        for item in tree.values():
            yield from _tensors(item)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _storage(tensor: Tensor) -> int:
    # Sparse tensors have no storage, and nothing is ever a view of one.
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else id(tensor)
