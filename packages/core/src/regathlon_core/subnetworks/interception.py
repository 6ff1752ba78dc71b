"""Runs a model narrower by intercepting its functional calls.

The model's own code sees the shapes of the full-width model: ``x.shape``, ``x.size()`` and ``x.numel()``
answer for the full tensor, so that views, head counts and assertions written for it stay right. The tensors
themselves are narrow, and each carries a *mark* that says what its axes hold:

* a ``Dim``: the positions of that axis which the width keeps;
* ``None``: all of them, and they have to stay (data, batch, space, predictions);
* ``FREE``: all of them, but what meets a narrower tensor there is cut to fit (parameters, constants,
broadcasts).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from regathlon_core.callers import running_module
from regathlon_core.errors import UserError
from regathlon_core.subnetworks.dims import Algebra, Dim, FrozenAlgebra, Retrace, Widths, cat, merge
from regathlon_core.subnetworks.plan import Plan


class Free:
    """Mark of an axis that is cut to fit whatever it meets."""

    def __repr__(self) -> str:
        return "FREE"


FREE: Final = Free()
_ONLY_FREE, _ONLY_WHOLE = {FREE}, {None}
Axis = Dim | None | Free
Axes = tuple[Axis, ...]

# Marks of whole tensors, the common cases; LEARNED is FREE and made from parameters only, as a weight is.
DATA, CONSTANT, LEARNED = "data", "constant", "learned"
Mark = str | Axes

Rule = Callable[..., Any]
RULES: dict[Any, Rule] = {}
ALWAYS: set[Any] = set()
"""Rules that also apply where no tensor is narrow: those that produce channels, or free axes."""

_MARK = "_regathlon_mark"
_UNMARKED = (None, DATA)


def rule(*functions: Any, always: bool = False) -> Callable[[Rule], Rule]:
    """Register a rule, called as ``rule(run, function, *args, **kwargs)``, for torch functions; None is skipped."""

    def register(body: Rule) -> Rule:
        for function in functions:
            if function is not None:
                RULES[function] = body
                if always:
                    ALWAYS.add(function)
        return body

    return register


Places = dict[int, tuple[int, int] | Tensor]
"""By axis, what is cut out: from where to where, or positions."""


def cut(tensor: Tensor, places: Places) -> Tensor:
    """Return what a width keeps of a tensor."""
    slices = {at: place for at, place in places.items() if isinstance(place, tuple)}
    if len(slices) > 1 and tensor.requires_grad and torch.is_grad_enabled():
        crop = [0] * (2 * tensor.dim())
        for at, (start, stop) in slices.items():
            last = 2 * (tensor.dim() - 1 - at)
            crop[last : last + 2] = -start, stop - tensor.shape[at]
        tensor = F.pad(tensor, crop)  # its gradient is filled up with zeros once, not once per axis
    else:
        for at, (start, stop) in slices.items():
            tensor = tensor.narrow(at, start, stop - start)
    for at, place in places.items():
        if isinstance(place, Tensor):
            tensor = tensor.index_select(at, place)
    return tensor


def leaf(parameter: Tensor, places: Places) -> Tensor:
    """Return a cut weight as a leaf of the graph, whose gradient goes to the parameter's at once, where it was cut from.

    Through the cut itself every gradient would be padded to full size with zeros before it is added.

    Args:
        parameter: What is cut; its ``grad`` grows in ``backward``.
        places: What is cut out.
    """
    # Not in one piece: that would spare a convolution two copies, and hold a third of a model's weights more.
    tensor = cut(parameter.detach(), places).requires_grad_()
    hand_over = functools.partial(_hand_over, parameter, places)
    tensor.register_post_accumulate_grad_hook(hand_over)  # type: ignore[no-untyped-call]
    return tensor


def _hand_over(parameter: Tensor, places: Places, tensor: Tensor) -> None:
    gradient, tensor.grad = tensor.grad, None
    assert gradient is not None
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    target = parameter.grad
    scattered = []
    for at, place in places.items():
        if isinstance(place, tuple):
            target = target.narrow(at, place[0], place[1] - place[0])
        else:
            scattered.append((at, place))
    if not scattered:
        target += gradient
    elif len(scattered) == 1:
        target.index_add_(*scattered[0], gradient)
    else:
        where: list[Any] = [torch.arange(size, device=target.device) for size in target.shape]
        for at, positions in scattered:
            where[at] = positions
        target.index_put_(torch.meshgrid(*where, indexing="ij"), gradient, accumulate=True)


class Interception(TorchFunctionMode):
    """One run of a model: a trace at full width that fills a plan, or a narrow run that follows it.

    Args:
        model: The model.
        plan: How its channels hang together.
        widths: What to keep; None to trace.
        output_layers: Names of submodules whose layers keep all outputs; None for the layers whose outputs
            the model returns.
        leaves: Cut weights that hand their gradients over, by what was cut; None to let gradients flow through the cut.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: Plan,
        widths: Widths | None,
        output_layers: Sequence[str] | None,
        leaves: dict[Any, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.plan = plan
        self.widths = widths
        self.output_layers = output_layers
        self.leaves = leaves
        self.algebra: Algebra = plan.algebra if widths is None else FrozenAlgebra(widths)
        self.used: dict[str, dict[int, Dim]] = {}
        """Which axes of the model's own tensors were cut, and how."""
        self._token = object()
        self._learned, self._buffers = own_tensors(model)
        self._anonymous: dict[int, tuple[str, Tensor]] = {}
        self._uses: dict[str, int] = {}
        self._drawn: dict[torch.Generator, Tensor] = {}
        self._from_learned = False  # whether an argument of the call that runs is a weight
        self._without_rule: list[tuple[str, list[Dim]]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        generator = kwargs.get("generator")
        if generator is not None and generator not in self._drawn:
            self._drawn[generator] = generator.get_state()
        marks = [self.mark(tensor) for tensor in tensors_in((args, kwargs) if kwargs else args)]
        body = RULES.get(func)
        free = all(mark in (CONSTANT, LEARNED) for mark in marks)
        whole = all(mark == DATA for mark in marks)
        outer, self._from_learned = self._from_learned, LEARNED in marks
        try:
            if body is not None and (func in ALWAYS or not (free or whole)):
                return body(self, func, *args, **kwargs)
            if body is None and not _reads_only(func):
                self._without(func, marks)
            out = func(*args, **kwargs)
            for tensor in tensors_in(out):
                self.put(tensor, [FREE if free else None] * tensor.dim())
            return out
        finally:
            self._from_learned = outer

    # ---- what rules ask ------------------------------------------------------------------------------------

    def mark(self, tensor: Tensor) -> Mark:
        """Return the mark of a tensor; what comes from outside of the run is data."""
        token, mark = getattr(tensor, _MARK, _UNMARKED)
        if token is self._token:
            return mark
        # A plain tensor is no parameter, which is asked at every call and costs more than all else here.
        if id(tensor) in self._learned or (type(tensor) is not Tensor and isinstance(tensor, nn.Parameter)):
            return LEARNED
        return CONSTANT if id(tensor) in self._buffers else DATA

    def axes(self, tensor: Tensor) -> Axes:
        """Return what each axis of a tensor holds."""
        mark = self.mark(tensor)
        if isinstance(mark, tuple):
            return mark
        return (None if mark == DATA else FREE,) * tensor.dim()

    def shape(self, tensor: Tensor) -> list[int]:
        """Return the shape that the tensor has in the full-width model."""
        pairs = zip(tensor.shape, self.axes(tensor), strict=True)
        return [axis.size if isinstance(axis, Dim) else size for size, axis in pairs]

    def put(self, out: Any, axes: Iterable[Axis]) -> Any:
        """Mark a result and return it."""
        kept = tuple([None if isinstance(axis, Dim) and self._settled(axis) else axis for axis in axes])
        kinds = set(kept)
        mark: Mark = kept
        if kinds == _ONLY_FREE:
            mark = LEARNED if self._from_learned else CONSTANT
        elif kinds <= _ONLY_WHOLE:
            mark = DATA
        if mark is kept or mark != self.mark(out):
            setattr(out, _MARK, (self._token, mark))
        return out

    def count(self, axis: Axis, size: int) -> int:
        """Return the length of an axis in this run; ``size`` is its full length."""
        if isinstance(axis, Dim) and self.widths is not None:
            return self.widths.count(axis)
        return size

    def combine(self, *axes: Axis) -> Axis:
        """Return what axes that have to agree hold together."""
        result: Axis = FREE
        for axis in axes:
            if isinstance(axis, Dim) and isinstance(result, Dim):
                result = self.algebra.join(axis, result)
            elif isinstance(axis, Dim) or isinstance(result, Dim):
                dim, other = (axis, result) if isinstance(axis, Dim) else (result, axis)
                assert isinstance(dim, Dim)
                if other is None:
                    self.whole(dim)
                result = dim
            elif axis is None:
                result = None
        return result

    def whole(self, *axes: Axis) -> None:
        """Require axes not to be shortened."""
        for axis in axes:
            if isinstance(axis, Dim):
                self.algebra.keep_whole(axis)

    def split(self, axis: Axis, sizes: Sequence[int]) -> list[Axis]:
        """Read an axis as a row-major product."""
        return list(self.algebra.split(axis, sizes)) if isinstance(axis, Dim) else [axis] * len(sizes)

    def cut(self, axis: Axis, sizes: Sequence[int]) -> list[Axis]:
        """Read an axis as a concatenation."""
        return list(self.algebra.cut(axis, sizes)) if isinstance(axis, Dim) else [axis] * len(sizes)

    def merge(self, axes: Sequence[Axis], sizes: Sequence[int]) -> Axis:
        """Return the row-major flattening of axes."""
        return self._together(axes, sizes, merge)

    def cat(self, axes: Sequence[Axis], sizes: Sequence[int]) -> Axis:
        """Return the concatenation of axes."""
        return self._together(axes, sizes, cat)

    def fit(self, tensor: Tensor, axes: Sequence[Axis]) -> Tensor:
        """Cut the free axes of a tensor to those of the last axes of ``axes``; axes of length 1 broadcast."""
        own = self.axes(tensor)
        if self.widths is None or FREE not in own:
            return tensor
        places: Places = {}
        pairs = zip(own, axes[len(axes) - len(own) :], strict=True)
        for at, (mine, target) in enumerate(pairs):
            if mine is FREE and isinstance(target, Dim) and tensor.shape[at] != 1:
                self._remember(tensor, at, target)
                place = self._place(tensor, at, target)
                if place is not None:
                    places[at] = place
        if not places:
            return tensor
        if self.leaves is None or not self._defers(tensor):
            return cut(tensor, places)
        key = id(tensor), *places
        if key not in self.leaves:
            self.leaves[key] = leaf(tensor, places)
        return self.leaves[key]

    def narrow_in_place(self, tensor: Tensor, axes: Sequence[Axis]) -> None:
        """Cut a constant that is about to be written to, where it stands."""
        own = self.axes(tensor)
        out = self.fit(tensor, axes)
        if out is not tensor:
            tensor.data = out.clone()
        pairs = zip(own, axes[len(axes) - len(own) :], strict=True)
        self.put(tensor, [target if mine is FREE else mine for mine, target in pairs])

    def positions(self, axis: Dim, device: torch.device) -> Tensor:
        """Return the full-width positions that an axis keeps, int64."""
        assert self.widths is not None
        return torch.cat([torch.arange(*run, device=device) for run in self.widths.runs(axis)])

    def produced(self, weight: Tensor, at: int, size: int | None = None) -> Axis:
        """Return the axis that a weight produces: its outputs if it is learned, else nothing that shrinks.

        Args:
            weight: The weight.
            at: Which of its axes counts the outputs.
            size: Number of outputs where that axis counts only those of a group.
        """
        mark = self.mark(weight)
        if isinstance(mark, tuple):
            return mark[at] if mark[at] is not FREE else None
        size = size or weight.shape[at]
        if mark != LEARNED or size == 1:
            return None
        name = self.name(weight)
        dim = self._known((name, at), size)
        if self.output_layers is not None and any(_inside(name, layer) for layer in self.output_layers):
            self.algebra.keep_whole(dim)
        return dim

    def padding(self, inner: Dim, size: int) -> Dim:
        """Return the axis of ``inner`` padded with zeros to ``size``: a new one, at least as long as ``inner``."""
        count = self._uses["zeros"] = self._uses.get("zeros", 0) + 1
        name = f"zeros#{count}"
        known = (name, 0) in self.plan.produced
        dim = self._known((name, 0), size)
        if not known:
            self.plan.padded.append((dim, inner))
        return dim

    def name(self, tensor: Tensor) -> str:
        """Return the name of a parameter; one that is computed is named after the module that uses it."""
        if id(tensor) in self._learned:
            return self._learned[id(tensor)]
        if id(tensor) not in self._anonymous:
            path = self.where()
            self._uses[path] = self._uses.get(path, 0) + 1
            # The tensor is kept, so that its id is its own.
            self._anonymous[id(tensor)] = f"{path}.weight#{self._uses[path]}", tensor
        return self._anonymous[id(tensor)][0]

    def where(self) -> str:
        """Return the name of the innermost submodule that is running."""
        return running_module({id(module): name for name, module in self.model.named_modules()})

    def error(self, function: Any, problem: str) -> UserError:
        """Return an error that names a call and the layer it was made in."""
        return UserError(f"{problem} (call {_name(function)} in layer {self.where()!r})")

    # ---- the ends of a run ---------------------------------------------------------------------------------

    def finish(self, outputs: Any) -> None:
        """Check a run's end: what the model returns is whole, and calls without a rule saw nothing narrow."""
        axes = [axis for tensor in tensors_in(outputs) for axis in self.axes(tensor)]
        dims = [axis for axis in axes if isinstance(axis, Dim)]
        if self.output_layers is None:
            self.whole(*dims)
        if self.widths is not None:
            return
        if self.output_layers is None and not dims:
            raise UserError(
                f"Cannot find the output layer of {type(self.model).__name__}: no layer's output channels reach "
                "what it returns. Name it: output_layers=('head',)."
            )
        for layer in self.output_layers or ():
            if not any(_inside(name, layer) for name, _ in self.plan.produced):
                raise UserError(f"The output layer {layer!r} holds no layer that ran.")
        for message, dims in self._without_rule:
            if not all(leaf.whole for dim in dims for leaf in dim.leaves()):
                raise UserError(message)

    def give_back(self) -> None:
        """Give back the numbers that the run drew from explicit generators."""
        for generator, state in self._drawn.items():
            generator.set_state(state)

    # ---- details -------------------------------------------------------------------------------------------

    def _settled(self, dim: Dim) -> bool:
        return self.widths is not None and self.widths.is_whole(dim)

    def _known(self, key: tuple[str, int], size: int) -> Dim:
        dim = self.plan.produced.get(key)
        if dim is None:
            if self.widths is not None:
                raise Retrace(f"the weight {key[0]} is new")
            dim = self.plan.produced[key] = Dim(size, layers=(key[0],))
        return dim.root()

    def _together(self, axes: Sequence[Axis], sizes: Sequence[int], compose: Callable[..., Dim]) -> Axis:
        if not any(isinstance(axis, Dim) for axis in axes):
            return None if None in axes else FREE
        pairs = zip(axes, sizes, strict=True)
        return compose([axis if isinstance(axis, Dim) else Dim(size, whole=True) for axis, size in pairs])

    def _place(self, tensor: Tensor, at: int, axis: Dim) -> tuple[int, int] | Tensor | None:
        """Return what an axis keeps; None where that is all of it."""
        assert self.widths is not None
        if tensor.shape[at] != axis.size:
            raise UserError(
                f"A tensor of {tensor.shape[at]} channels met one that has {axis.size} at full width, in layer "
                f"{self.where()!r}: a call that torch does not let anyone intercept made it."
            )
        if self.widths.is_whole(axis):
            return None
        runs = self.widths.runs(axis)
        return runs[0] if len(runs) == 1 else self.positions(axis, tensor.device)

    def _defers(self, tensor: Tensor) -> bool:
        return tensor.is_leaf and tensor.requires_grad and torch.is_grad_enabled()

    def _remember(self, tensor: Tensor, at: int, axis: Dim) -> None:
        name = self._learned.get(id(tensor)) or self._buffers.get(id(tensor))
        if name is not None:
            self.used.setdefault(name, {})[at] = axis

    def _without(self, function: Any, marks: Sequence[Mark]) -> None:
        dims = [axis for mark in marks if isinstance(mark, tuple) for axis in mark if isinstance(axis, Dim)]
        if not dims:
            return
        message = (
            f"There is no rule for running {_name(function)} on fewer channels, which layer {self.where()!r} calls. Say "
            "what it does with regathlon_core.subnetworks.register_rule, or name layers before it as output_layers."
        )
        if self.widths is None:
            self._without_rule.append((message, dims))  # an error unless the axes turn out to be whole
        else:
            raise Retrace(message)


def own_tensors(model: nn.Module) -> tuple[dict[int, str], dict[int, str]]:
    """Return the names of a model's parameters and of its buffers, by the tensors' ids."""
    learned: dict[int, str] = {}
    buffers: dict[int, str] = {}
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for found, own in ((learned, module._parameters), (buffers, module._buffers)):
            for name, tensor in own.items():
                if tensor is not None:
                    found.setdefault(id(tensor), prefix + name)
    return learned, buffers


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists, dictionaries and data classes."""
    found: list[Tensor] = []
    _collect(value, found)
    return found


def _collect(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, (tuple, list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            if type(item) not in _SCALARS:
                _collect(item, found)
    elif dataclasses.is_dataclass(value):
        _collect(vars(value), found)


_SCALARS = frozenset({type(None), bool, int, float, str, torch.dtype, torch.device})


def _inside(name: str, layer: str) -> bool:
    return name.startswith(f"{layer}.")


def _name(function: Any) -> str:
    return str(resolve_name(function) or getattr(function, "__name__", function))


def _reads_only(function: Any) -> bool:
    return getattr(function, "__name__", "") in _PLAIN


_PLAIN = frozenset(
    {
        "__get__",
        "dim",
        "ndimension",
        "stride",
        "storage_offset",
        "element_size",
        "is_contiguous",
        "get_device",
    }
    | {
        "is_floating_point",
        "is_complex",
        "is_tensor",
        "is_inference",
        "is_same_size",
        "is_nonzero",
        "is_pinned",
    }
    | {
        "is_shared",
        "has_names",
        "result_type",
        "data_ptr",
        "item",
        "register_hook",
        "retain_grad",
        "backward",
    }
    | {"__bool__", "__float__", "__int__", "__index__", "__hash__", "__repr__", "__format__", "__str__"}
)
