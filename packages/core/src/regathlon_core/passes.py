"""Passes of a model and their roles: what a forward pass is for decides what batch-norm does in it.

==============  =====================  ==========================  =========================
role            normalises by          moves running statistics    native dropout
==============  =====================  ==========================  =========================
``full``        as the module is set   yes                         as the module is set
``sub``         statistics of batch    no                          as the module is set
``probe``       as the module is set   no                          off
``attribution`` running statistics     no                          off
==============  =====================  ==========================  =========================

A role is said, never guessed from a width or a flag.
"""

from __future__ import annotations

import contextlib
import contextvars
import enum
from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm


class PassRole(enum.Enum):
    """What a forward pass is for."""

    FULL = "full"
    """The ordinary training pass of the whole model."""
    SUB = "sub"
    """A pass of a sub-network or of transformed views."""
    PROBE = "probe"
    """A pass that only asks for gradients or statistics."""
    ATTRIBUTION = "attribution"
    """A pass that only asks what the model relies on."""


_role: contextvars.ContextVar[PassRole | None] = contextvars.ContextVar("regathlon_pass_role", default=None)


def current_role() -> PassRole:
    """Return the role of the pass that is running; ``full`` outside of ``run_as``."""
    return _role.get() or PassRole.FULL


def given_role() -> PassRole | None:
    """Return the role that the innermost ``run_as`` gave; None outside of any."""
    return _role.get()


@contextlib.contextmanager
def run_as(model: nn.Module, role: PassRole) -> Iterator[None]:
    """Run the model's passes in a role; every module's flags are as before afterwards, whatever happens.

    Args:
        model: The model; only its flags are touched, and only inside the block.
        role: What the passes are for.

    Example:
        >>> import torch
        >>> model = nn.BatchNorm1d(3)
        >>> with run_as(model, PassRole.SUB):
        ...     _ = model(torch.randn(4, 3))
        >>> int(model.num_batches_tracked)
        0
    """
    modules = list(model.modules())
    flags = [(module, module.training) for module in modules]
    tracked = [
        (module, module.track_running_stats, module.running_mean, module.running_var)
        for module in modules
        if isinstance(module, _NormBase)
    ]
    token = _role.set(role)
    try:
        if role is PassRole.ATTRIBUTION:
            model.eval()
        elif role is not PassRole.FULL:
            for module, training in flags:
                if isinstance(module, _NormBase):
                    _freeze_statistics(module, training, role)
                elif role is PassRole.PROBE and isinstance(module, _DropoutNd):
                    module.training = False
        yield
    finally:
        _role.reset(token)
        for module, training in flags:
            _restore(module, "training", training)
        for module, track, mean, variance in tracked:
            _restore(module, "track_running_stats", track)
            _restore(module, "running_mean", mean)
            _restore(module, "running_var", variance)


def _restore(module: nn.Module, name: str, value: object) -> None:
    if getattr(module, name) is not value:  # setting a module's attribute costs several times the asking
        setattr(module, name, value)


def _freeze_statistics(module: _NormBase, training: bool, role: PassRole) -> None:
    # A norm layer that the user froze (eval inside a training model) normalises by statistics that do not fit
    # a sub-network, so `sub` switches it to the batch's; a probe asks about the model as it is.
    if training or role is PassRole.SUB:
        module.training = True
        module.track_running_stats = False
        if isinstance(module, _InstanceNorm):  # it moves statistics that it has, tracked or not
            module.running_mean = module.running_var = None
