"""Rules by call: what a torch function does to the channels of its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from regathlon_core.errors import UserError
from regathlon_core.subnetworks.interception import RULES
from regathlon_core.subnetworks.rules import (
    attention,
    composite,
    indexing,
    layers,
    pointwise,
    recurrent,
    shapes,
)

__all__ = [
    "attention",
    "composite",
    "indexing",
    "layers",
    "pointwise",
    "recurrent",
    "register_rule",
    "shapes",
]

_KINDS = {"elementwise": pointwise.elementwise, "same": pointwise.same, "whole": pointwise.whole}


def register_rule(function: Any, rule: Literal["elementwise", "same", "whole"] | Callable[..., Any]) -> None:
    """Say how sub-networks run a function that has no rule of its own.

    Args:
        function: What torch passes to ``__torch_function__``: a torch function or method, a ``torch.ops``
            operator, or a Python function wrapped by ``torch.overrides.wrap_torch_function``.
        rule: ``"elementwise"``: the result's axes are those that broadcasting the tensor arguments gives.
            ``"same"``: they are those of the first argument, as for a softmax.
            ``"whole"``: it needs its arguments at full width, so the layers before it keep their channels.
            Or a function of the same arguments that computes the same by calls that have rules.

    Raises:
        UserError: ``rule`` is none of these.

    Example:
        >>> import torch
        >>> @torch.overrides.wrap_torch_function(lambda x, gate: (x, gate))
        ... def gated(x, gate):
        ...     return x * torch.sigmoid(gate)
        >>> register_rule(gated, "elementwise")
    """
    if callable(rule):
        composite.substitute(function, rule)
    elif rule in _KINDS:
        RULES[function] = _KINDS[rule]
    else:
        raise UserError(f"A rule is a function or one of {', '.join(map(repr, _KINDS))}, not {rule!r}.")
