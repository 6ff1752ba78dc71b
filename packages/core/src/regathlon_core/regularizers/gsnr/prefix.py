"""What a model computes before the first of some places, made once for two passes on the same inputs.

A probe and the pass that trains agree up to the first place where features are dropped. The probe's outputs up to there,
with the graph that made them, are therefore lent to the pass that trains: modules that ran before the place return what
they returned. Nothing is lent where the two passes could differ before that place.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils.hooks import RemovableHandle

from regathlon_core.passes import PassRole, current_role

_Statistics = tuple[_BatchNorm, Tensor, Tensor]
"""A batch-norm layer, and the mean and variance of a batch in it."""


class SharedPrefix:
    """Lends what one pass computed before the first place to the next full pass on the same inputs.

    Args:
        model: The model, with the hooks that it will have.
        places: Names of the submodules whose outputs are the places.
        run: Makes a pass; called once, to see which modules run before the first place.
    """

    def __init__(self, model: nn.Module, places: Sequence[str], run: Callable[[], object]) -> None:
        self.modules = _before_first(model, [model.get_submodule(place) for place in places], run)
        self._layers = [
            layer
            for module in self.modules
            for layer in module.modules()
            if isinstance(layer, _BatchNorm) and _moves(layer)
        ]
        self._outputs: dict[nn.Module, Any] = {}
        self._statistics: list[_Statistics] = []
        self._called_with: tuple[Any, ...] | None = None
        self._lent: list[nn.Module] = []
        self._hooks: list[RemovableHandle] = []
        if self.modules:
            self._hooks = [
                model.register_forward_pre_hook(self._lend),
                model.register_forward_hook(self._take_back, always_call=True),
            ]

    def remove(self) -> None:
        """Take the hooks away."""
        self.forget()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def forget(self) -> None:
        """Keep nothing for a later pass."""
        self._outputs, self._statistics, self._called_with = {}, [], None

    @contextlib.contextmanager
    def recording(self, model: nn.Module) -> Iterator[None]:
        """Note what the pass inside the block computes before the first place, to lend it to the next full pass."""
        self.forget()
        if not self.modules:
            yield
            return

        def note_arguments(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            self._called_with = inputs

        def note_output(module: nn.Module, inputs: Any, output: Any) -> None:
            self._outputs[module] = output

        hooks = [model.register_forward_pre_hook(note_arguments)]
        # Before other hooks, which act on the output again when it is lent.
        hooks += [module.register_forward_hook(note_output, prepend=True) for module in self.modules]
        try:
            with contextlib.ExitStack() as stack:
                self._statistics = [stack.enter_context(_statistics_of(layer)) for layer in self._layers]
                yield
        except BaseException:
            self.forget()
            raise
        finally:
            for hook in hooks:
                hook.remove()

    def _lend(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        called_with = self._called_with
        same = called_with is not None and len(called_with) == len(inputs)
        same = same and all(a is b for a, b in zip(called_with or (), inputs, strict=True))
        if not same or current_role() is not PassRole.FULL or not model.training:
            return
        for module, output in self._outputs.items():
            module.__dict__["forward"] = _returning(output)
            self._lent.append(module)
        for layer, mean, variance in self._statistics:
            _move_statistics(layer, mean, variance)
        self.forget()

    def _take_back(self, model: nn.Module, inputs: Any, outputs: Any) -> None:
        for module in self._lent:
            del module.__dict__["forward"]
        self._lent.clear()


def _before_first(
    model: nn.Module, places: Sequence[nn.Module], run: Callable[[], object]
) -> list[nn.Module]:
    """Return the outermost modules that a pass has done with when it reaches the first place, that place included.

    There are none where a second pass might compute something else in them: native dropout, other regularizers' hooks, a
    borrowed ``forward``, or a module that runs twice.
    """
    if any("forward" in vars(module) for module in model.modules()):
        return []
    done: list[nn.Module] = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: done.append(module))
        for module in model.modules()
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    runs = Counter(done)
    first = next((at for at, module in enumerate(done) if module in places), None)
    if first is None or done[first] is model:
        return []
    before = list(dict.fromkeys(done[: first + 1]))
    inner = {module for outer in before for module in outer.modules() if module is not outer}
    outermost = [module for module in before if module not in inner]
    repeatable = all(
        runs[outer] == 1 and all(_repeats(module, module is done[first]) for module in outer.modules())
        for outer in outermost
    )
    return outermost if repeatable else []


def _repeats(module: nn.Module, is_place: bool) -> bool:
    """Return whether a module computes the same in a probe and in a full pass."""
    hooked = bool(module._forward_pre_hooks) or (bool(module._forward_hooks) and not is_place)
    random = isinstance(module, _DropoutNd) and module.training and module.p > 0
    return not (hooked or random or (isinstance(module, _InstanceNorm) and _moves(module)))


def _moves(layer: _BatchNorm | _InstanceNorm) -> bool:
    """Return whether a full pass moves a layer's running statistics."""
    return layer.training and layer.track_running_stats and layer.running_mean is not None


@contextlib.contextmanager
def _statistics_of(layer: _BatchNorm) -> Iterator[_Statistics]:
    """Have a layer write its batch's mean and variance to tensors of their own; its running ones rest."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    mean, variance = torch.zeros_like(layer.running_mean), torch.zeros_like(layer.running_var)
    own = layer.track_running_stats, layer.momentum, layer._buffers.copy()
    layer.track_running_stats, layer.momentum = True, 1.0
    layer._buffers.update(running_mean=mean, running_var=variance, num_batches_tracked=None)
    try:
        yield layer, mean, variance
    finally:
        layer.track_running_stats, layer.momentum = own[:2]
        layer._buffers.update(own[2])


@torch.no_grad()
def _move_statistics(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Move a layer's running statistics as the pass that is saved would have."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked += 1
    share = 1 / float(layer.num_batches_tracked or 1) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean, share)
    layer.running_var.lerp_(variance, share)


def _returning(output: Any) -> Callable[..., Any]:
    return lambda *inputs, **keywords: output
