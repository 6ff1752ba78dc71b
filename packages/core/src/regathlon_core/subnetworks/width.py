"""Width sub-networks: any model, run with a fraction of its channels."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.counting import not_counted
from regathlon_core.errors import UserError, unknown
from regathlon_core.passes import PassRole, current_role, run_as
from regathlon_core.subnetworks.dims import Dim, Retrace, Widths
from regathlon_core.subnetworks.interception import Interception
from regathlon_core.subnetworks.plan import Divisor, Plan
from regathlon_core.subnetworks.running import borrowed_buffers, random_state, replaced_forward, sub_role

_plans: weakref.WeakKeyDictionary[nn.Module, dict[Any, Plan]] = weakref.WeakKeyDictionary()


class SubNetwork:
    """What ``subnetwork`` yields: which channels the runs inside the block used."""

    def __init__(self) -> None:
        self._widths = Widths({})
        self._used: dict[str, dict[int, Dim]] = {}

    def kept(self, name: str, axis: int = 0) -> tuple[int, ...] | None:
        """Return the positions of a parameter's or buffer's axis that the last run used.

        Parameters that the model computes with before it uses them (a class token that is expanded, a weight
        norm) are used whole as far as this tells.

        Args:
            name: As in ``state_dict()``.
            axis: 0 for the outputs of a linear layer or convolution, 1 for its inputs.

        Returns:
            The positions in order; None where the whole axis was used.
        """
        dim = self._used.get(name, {}).get(axis)
        if dim is None or self._widths.is_whole(dim):
            return None
        return tuple(position for run in self._widths.runs(dim) for position in range(*run))


@contextlib.contextmanager
def subnetwork(
    model: nn.Module,
    width: float,
    *,
    output_layers: Sequence[str] | None = None,
    divisor: Divisor = 1.0,
    defer_gradients: bool = False,
) -> Iterator[SubNetwork]:
    """Run a model with a fraction of its channels: inside the block, ``model(x)`` is the sub-network.

    The model is not rewritten. Its functional calls are intercepted: each tensor carries which channels of
    the full-width tensor it holds, and convolutions, linear layers, norms and attention cut their weights to
    what arrives and to what the width keeps. The result equals that of a smaller model which holds the cut
    weights, and gradients land in the full parameters.

    The first call traces the model once at full width, without gradients, to learn which channels belong
    together (residual sums, concatenations, groups, heads); that is remembered for the model. Random numbers
    that the trace draws are given back.

    In training the passes have the role ``sub`` (``regathlon_core.run_as``) unless one was given: batch-norm
    normalises by the batch and no statistics move (those of the kept channels do in a pass run as ``full``). In
    ``eval()`` running statistics are cut like weights. No other buffer moves.

    Source: GradAug (Yang, Zhu & Chen, NeurIPS 2020, arXiv 2006.07989), whose code rewrites each architecture
    (https://github.com/taoyang1122/GradAug). Deviations: (1) any model, by interception;
    (2) the first channels are kept per segment of a concatenation, not of the whole; (3) groups of a grouped
    convolution and attention heads go as a whole; (4) batch-norm follows the pass's role, not ``width == 1``.

    Args:
        model: Any module; inside the block call it, not its submodules.
        width: Share of channels in (0, 1].
        output_layers: Names of submodules that keep all their outputs (a container: all of its layers). None
            for the layers whose outputs the model returns.
        divisor: Channel counts are multiples of it; or, by pattern of layer name, one each (see
            ``kept_channels``).
        defer_gradients: Cut weights are leaves of the graph, whose gradients ``backward`` adds to the parameters'
            ``grad`` one by one: several times less memory traffic than through the cut, which pads every gradient
            to full size. ``torch.autograd.grad`` and hooks on parameters do not see them.

    Yields:
        Which channels were used, once the model has run.

    Raises:
        UserError: The width is out of range, an output layer has no such name or cannot be found, a call has
            no rule (the message names it and the layer), or the model is inside such a block already.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 10), torch.nn.ReLU(), torch.nn.Linear(10, 3))
        >>> with subnetwork(model, 0.5) as sub:
        ...     logits = model(torch.randn(2, 4))
        >>> logits.shape, sub.kept("0.weight")
        (torch.Size([2, 3]), (0, 1, 2, 3, 4))
        >>> logits.sum().backward()
        >>> model[2].weight.grad.shape
        torch.Size([3, 10])
    """
    if not 0 < width <= 1:
        raise UserError(f"The width of a sub-network is in (0, 1], not {width}.")
    for name in output_layers or ():
        try:
            model.get_submodule(name)
        except AttributeError:
            names = (known for known, _ in model.named_modules() if known)
            raise unknown("layer", name, names) from None
    if isinstance(model.__dict__.get("forward"), _Forward):
        raise UserError(f"This {type(model).__name__} is inside a sub-network block already.")
    sub = SubNetwork()
    layers = None if output_layers is None else tuple(output_layers)
    leaves: dict[Any, Tensor] | None = {} if defer_gradients else None
    forward = _Forward(model, model.forward, width, layers, divisor, leaves, sub)
    with sub_role(model), replaced_forward(model, forward):
        yield sub
    if not forward.called:
        raise UserError(
            f"{type(model).__name__} was not called inside its sub-network block: call the model itself, its "
            "submodules run at full width."
        )


class _Forward:
    """Stands in for the model's ``forward``: traces it where needed, then runs it narrow."""

    def __init__(
        self,
        model: nn.Module,
        original: Callable[..., Any],
        width: float,
        output_layers: tuple[str, ...] | None,
        divisor: Divisor,
        leaves: dict[Any, Tensor] | None,
        sub: SubNetwork,
    ) -> None:
        self.model, self.original = model, original
        self.width, self.divisor, self.output_layers = width, divisor, output_layers
        self.leaves, self.sub = leaves, sub
        self.called = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.called = True
        with borrowed_buffers(self.model):
            if self.width == 1:
                return self.original(*args, **kwargs)
            plan = self._plan()
            for _ in range(2):
                try:
                    return self._run(plan, args, kwargs)
                except Retrace:
                    pass
                self._trace(plan, args, kwargs)
            try:
                return self._run(plan, args, kwargs)
            except Retrace as mismatch:
                raise UserError(
                    f"The calls of {type(self.model).__name__} differ from pass to pass in a way that its "
                    f"sub-networks cannot follow: {mismatch}."
                ) from None

    def _plan(self) -> Plan:
        shapes = tuple(
            (name, tensor.shape)
            for module in self.model.modules()
            for name, tensor in module._parameters.items()
            if tensor is not None
        )
        return _plans.setdefault(self.model, {}).setdefault((self.output_layers, shapes), Plan())

    def _run(self, plan: Plan, args: Any, kwargs: Any) -> Any:
        widths = plan.widths(self.width, self.divisor)
        run = Interception(self.model, plan, widths, self.output_layers, self.leaves)
        give_back = random_state()
        try:
            with run:
                out = self.original(*args, **kwargs)
            run.finish(out)
        except Retrace:
            give_back()
            run.give_back()
            raise
        self.sub._widths, self.sub._used = widths, run.used
        return out

    def _trace(self, plan: Plan, args: Any, kwargs: Any) -> None:
        run = Interception(self.model, plan, None, self.output_layers)
        give_back = random_state()
        full = self.model.training and current_role() is PassRole.FULL
        quiet = run_as(self.model, PassRole.SUB) if full else contextlib.nullcontext()
        try:
            with not_counted(), torch.no_grad(), quiet, run:
                out = self.original(*args, **kwargs)
            run.finish(out)
        except BaseException:  # what was learned so far is not the whole truth
            plan.forget()
            raise
        finally:
            give_back()
            run.give_back()
