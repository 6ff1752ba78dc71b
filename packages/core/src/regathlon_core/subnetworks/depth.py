"""Depth sub-networks: a residual network, run without some of its blocks."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from regathlon_core.errors import UserError, unknown
from regathlon_core.passes import PassRole, run_as
from regathlon_core.subnetworks.running import borrowed_buffers, random_state, replaced_forward, sub_role


@dataclass(frozen=True)
class ResidualBlock:
    """A submodule that adds something to its input.

    Attributes:
        name: Its dotted name.
        shortcut: Name, within the block, of the submodule on the other side of the sum; None for the input
            itself.
        activated: Whether a ReLU follows the sum.
    """

    name: str
    shortcut: str | None = None
    activated: bool = False


class DepthSubNetwork:
    """What ``subnetwork_depth`` yields: which blocks the last pass inside the block ran."""

    def __init__(self) -> None:
        self.kept: dict[str, bool] = {}


_blocks: weakref.WeakKeyDictionary[nn.Module, tuple[ResidualBlock, ...]] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def subnetwork_depth(
    model: nn.Module,
    keep: float | Mapping[str, bool],
    *,
    generator: torch.Generator | None = None,
) -> Iterator[DepthSubNetwork]:
    """Run a residual network without some of its blocks: inside the block, ``model(x)`` is the sub-network.

    A block that is left out is replaced by its shortcut (the input, or the projection beside the residual
    branch), and by the ReLU after the sum where there is one. The blocks are found by watching the model run
    once, as ``residual_blocks`` does. As in ``subnetwork`` the passes of a training model have the role
    ``sub``, and no buffer moves. The two may be nested.

    Source: the ablation "RandDepth" of GradAug (arXiv 2006.07989, Table 6), after stochastic depth (Huang et al.,
    arXiv 1603.09382). Reference code: https://github.com/taoyang1122/GradAug, ``models/resnet_randdepth.py``.
    Deviations: (1) sub-network passes move no batch-norm statistics, as the paper says; that code's do. (2)
    Evaluation does not scale the residual branch, because the full network is trained unscaled.

    Args:
        model: Any module whose blocks end in ``shortcut + branch``; call it inside the block.
        keep: By name, whether a block runs (blocks that are not named do); or the probability that the last
            block runs, with which every pass draws: it falls linearly from 1 at the first block.
        generator: Where the draws come from; needed with a probability.

    Yields:
        Which blocks ran, once the model has.

    Raises:
        UserError: A probability is not in [0, 1] or has no generator; a name is not that of a residual block;
            there are no residual blocks.

    Example:
        >>> import torch
        >>> class Block(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return x + super().forward(x)
        >>> model = torch.nn.Sequential(Block(3, 3), Block(3, 3))
        >>> x = torch.randn(2, 3)
        >>> with subnetwork_depth(model, {"1": False}):
        ...     torch.equal(model(x), model[0](x))
        True
    """
    if not isinstance(keep, Mapping):
        if not 0 <= keep <= 1:
            raise UserError(f"The probability of keeping a block is in [0, 1], not {keep}.")
        if generator is None:
            raise UserError(
                "Drawing which blocks run needs a generator; or say which: keep={'layer1.1': False}."
            )
    sub = DepthSubNetwork()
    forward = functools.partial(_forward, model, model.forward, keep, generator, sub)
    with sub_role(model), replaced_forward(model, forward):
        yield sub


def _forward(
    model: nn.Module,
    original: Any,
    keep: float | Mapping[str, bool],
    generator: torch.Generator | None,
    sub: DepthSubNetwork,
    *args: Any,
    **kwargs: Any,
) -> Any:
    blocks = known_blocks(model, original, args, kwargs)
    names = [block.name for block in blocks]
    if isinstance(keep, Mapping):
        for name in keep:
            if name not in names:
                raise unknown("residual block", name, names)
        sub.kept = {name: keep.get(name, True) for name in names}
    else:
        assert generator is not None
        falling = torch.linspace(1.0, keep, len(names), device=generator.device)
        draws = torch.rand(len(names), generator=generator, device=generator.device) < falling
        sub.kept = dict(zip(names, draws.tolist(), strict=True))
    with contextlib.ExitStack() as stack, borrowed_buffers(model):
        for block in blocks:
            if not sub.kept[block.name]:
                module = model.get_submodule(block.name)
                stack.enter_context(replaced_forward(module, functools.partial(_skip, module, block)))
        return original(*args, **kwargs)


def _skip(module: nn.Module, block: ResidualBlock, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if block.shortcut is not None:
        x = module.get_submodule(block.shortcut)(x)
    return F.relu(x) if block.activated else x


def residual_blocks(model: nn.Module, *args: Any, **kwargs: Any) -> tuple[ResidualBlock, ...]:
    """Return a model's residual blocks in the order in which they run, innermost ones only.

    The model runs once, without gradients and without a trace: a block is a submodule whose output is a sum,
    perhaps followed by a ReLU, with its input or with what one of its submodules makes of the input as a
    term.

    Args:
        model: The model.
        *args: What to call it with.
        **kwargs: What to call it with.

    Raises:
        UserError: There are none.
    """
    with sub_role(model):
        return _find(model, model.forward, args, kwargs)


def known_blocks(model: nn.Module, forward: Any, args: Any, kwargs: Any) -> tuple[ResidualBlock, ...]:
    """Return a model's residual blocks; at the first call by watching ``forward(*args, **kwargs)``.

    Raises:
        UserError: There are none.
    """
    blocks = _blocks.get(model)
    if blocks is None:
        with run_as(model, PassRole.PROBE):  # nothing that acts on features draws numbers in it
            blocks = _blocks[model] = _find(model, forward, args, kwargs)
    return blocks


def _find(model: nn.Module, forward: Any, args: Any, kwargs: Any) -> tuple[ResidualBlock, ...]:
    watch = _Watch(model)
    give_back = random_state()
    try:
        with torch.no_grad(), borrowed_buffers(model), watch:
            forward(*args, **kwargs)
    finally:
        give_back()
        for hook in watch.hooks:
            hook.remove()
    found = watch.found.values()
    blocks = tuple(b for b in found if not any(other.name.startswith(f"{b.name}.") for other in found))
    if not blocks:
        raise UserError(
            f"{type(model).__name__} has no residual blocks: no submodule adds something to its input."
        )
    return blocks


@dataclass
class _Origin:
    """Where a tensor comes from, in terms of the modules that are running."""

    inputs: frozenset[str] = frozenset()
    """Modules whose input it is."""
    made: frozenset[tuple[str, str]] = frozenset()
    """(Module, child) where the child made it from the module's input."""
    sums: dict[str, ResidualBlock] = field(default_factory=dict)
    """Modules whose shortcut is a term of it."""


class _Watch(TorchFunctionMode):
    """Follows sums through a forward pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.found: dict[str, ResidualBlock] = {}
        self.hooks: list[torch.utils.hooks.RemovableHandle] = []
        # The tensors are kept, so that their ids are theirs.
        self._origins: dict[int, tuple[Tensor, _Origin]] = {}
        self._sizes = {name: sum(p.numel() for p in m.parameters()) for name, m in model.named_modules()}
        for name, module in model.named_modules():
            if name:
                self.hooks.append(module.register_forward_pre_hook(functools.partial(self._enter, name)))
                self.hooks.append(module.register_forward_hook(functools.partial(self._leave, name)))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        terms = [self._origin(arg) for arg in args if isinstance(arg, Tensor)]
        out = func(*args, **(kwargs or {}))
        if not isinstance(out, Tensor) or not terms:
            return out
        if func in SUMS:
            sums = {name: block for origin in terms for name, block in origin.sums.items()}
            projected = {pair for origin in terms for pair in origin.made}
            projected |= {(name, block.shortcut) for name, block in sums.items() if block.shortcut}
            identity = {name for origin in terms for name in origin.inputs}
            identity |= {name for name, block in sums.items() if not block.shortcut}
            for name, child in sorted(projected, key=lambda pair: -self._sizes[".".join(pair)]):
                # Of two branches the smaller is the shortcut.
                sums[name] = ResidualBlock(name, child, name in sums and sums[name].activated)
            for name in identity:
                sums[name] = ResidualBlock(name, None, name in sums and sums[name].activated)
            self._put(out, _Origin(sums=sums))
        elif func in _RELUS:
            activated = {
                name: ResidualBlock(name, block.shortcut, True) for name, block in terms[0].sums.items()
            }
            self._put(out, _Origin(sums=activated))
        elif func in COPIES:
            self._put(out, terms[0])
        return out

    def _enter(self, name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], Tensor):
            origin = self._origin(args[0])
            self._put(args[0], _Origin(origin.inputs | {name}, origin.made, origin.sums))

    def _leave(self, name: str, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        if not (args and isinstance(args[0], Tensor) and isinstance(out, Tensor)):
            return
        block = self._origin(out).sums.get(name)
        if block is not None:
            self.found.setdefault(name, block)
        parent, _, child = name.rpartition(".")
        if parent and out is not args[0] and parent in self._origin(args[0]).inputs:
            origin = self._origin(out)
            self._put(out, _Origin(origin.inputs, origin.made | {(parent, child)}, origin.sums))

    def _origin(self, tensor: Tensor) -> _Origin:
        return self._origins.get(id(tensor), (tensor, _Origin()))[1]

    def _put(self, tensor: Tensor, origin: _Origin) -> None:
        self._origins[id(tensor)] = tensor, origin


SUMS = {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__, Tensor.__radd__}
_RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
COPIES = {torch.clone, Tensor.clone, Tensor.contiguous, Tensor.to, Tensor.float, Tensor.detach}
