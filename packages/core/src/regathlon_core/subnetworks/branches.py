"""The residual branches of models that nobody rewrote: what a block adds to its shortcut, on its way there."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from regathlon_core.passes import PassRole, current_role
from regathlon_core.subnetworks.depth import COPIES, SUMS, ResidualBlock, known_blocks
from regathlon_core.subnetworks.running import replaced_forward


@contextlib.contextmanager
def residual_branches(model: nn.Module, act: Callable[[Tensor, float], Tensor]) -> Iterator[None]:
    """Pass every residual branch of a training model through a function before it is added to its shortcut.

    The blocks are those of ``residual_blocks``, found when the model first runs. In each, the function takes
    what is added to the shortcut: once in a block of convolutions, twice in a transformer's block (attention
    and MLP). Sums that are written in place work too. In ``eval()``, and in passes that only probe or
    attribute, nothing happens.

    Args:
        model: Any module whose blocks end in ``shortcut + branch``.
        act: Takes the branch's output and the block's depth l/L in (0, 1], for block l of L in the order in
            which they run; returns a tensor of the same shape, or its very argument to change nothing.

    Raises:
        UserError: At the first pass, where the model has no residual blocks.

    Example:
        >>> import torch
        >>> class Block(nn.Linear):
        ...     def forward(self, x):
        ...         return x + super().forward(x)
        >>> model = nn.Sequential(Block(3, 3), Block(3, 3))
        >>> x = torch.randn(2, 3)
        >>> with residual_branches(model, lambda branch, depth: branch * (depth == 0.5)):
        ...     torch.equal(model(x), model[0](x))
        True
    """
    with replaced_forward(model, functools.partial(_forward, model, model.forward, act)):
        yield


def _forward(
    model: nn.Module, original: Any, act: Callable[[Tensor, float], Tensor], *args: Any, **kwargs: Any
) -> Any:
    if not model.training or current_role() in (PassRole.PROBE, PassRole.ATTRIBUTION):
        return original(*args, **kwargs)
    blocks = known_blocks(model, original, args, kwargs)
    with contextlib.ExitStack() as stack:
        for number, block in enumerate(blocks, start=1):
            module = model.get_submodule(block.name)
            run = functools.partial(
                _run, module, block, module.forward, functools.partial(_at, act, number / len(blocks))
            )
            stack.enter_context(replaced_forward(module, run))
        return original(*args, **kwargs)


def _at(act: Callable[[Tensor, float], Tensor], depth: float, branch: Tensor) -> Tensor:
    return act(branch, depth)


def _run(
    module: nn.Module,
    block: ResidualBlock,
    original: Any,
    act: Callable[[Tensor], Tensor],
    x: Tensor,
    *args: Any,
    **kwargs: Any,
) -> Any:
    if not module.training:
        return original(x, *args, **kwargs)
    sums = _Sums(act)
    with contextlib.ExitStack() as stack:
        if block.shortcut is None:
            sums.follow(x)
        else:
            shortcut = module.get_submodule(block.shortcut)
            # The last hook, so that it sees what other hooks have made of the output.
            hook = shortcut.register_forward_hook(lambda module, inputs, output: sums.follow(output))
            stack.callback(hook.remove)
        stack.enter_context(sums)
        return original(x, *args, **kwargs)


class _Sums(TorchFunctionMode):
    """Acts on what is added to the shortcut, and to the sums that are made of it."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._act = act
        self._shortcut: dict[int, Tensor] = {}  # the tensors are kept, so that their ids are theirs

    def follow(self, tensor: Tensor) -> None:
        """Take a tensor for the shortcut."""
        self._shortcut[id(tensor)] = tensor

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        terms = [id(arg) in self._shortcut for arg in args if isinstance(arg, Tensor)]
        carried = terms[:1] == [True] if func in COPIES else func in SUMS and any(terms)
        # A term of another shape is no branch: a position's embedding, a bias.
        if func in SUMS and sorted(terms) == [False, True] and args[0].shape == args[1].shape:
            at = terms.index(False)
            changed = self._act(args[at])
            if at == 0 and changed is not args[0] and func in _IN_PLACE:
                changed = args[0].copy_(changed)  # whoever holds the first term sees the sum
            args = (changed, *args[1:]) if at == 0 else (args[0], changed, *args[2:])
        out = func(*args, **(kwargs or {}))
        if carried:
            self.follow(out)
        return out


_IN_PLACE = {Tensor.add_, Tensor.__iadd__}
