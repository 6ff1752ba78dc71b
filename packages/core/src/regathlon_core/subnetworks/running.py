"""What passes leave behind, and how to leave nothing."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from regathlon_core.passes import PassRole, given_role, run_as


@contextlib.contextmanager
def sub_role(model: nn.Module) -> Iterator[None]:
    """Run passes of a training model in the role ``sub``, unless a role was given; leave ``eval()`` alone."""
    if model.training and given_role() is None:
        with run_as(model, PassRole.SUB):
            yield
    else:
        yield


@contextlib.contextmanager
def replaced_forward(model: nn.Module, forward: Callable[..., object]) -> Iterator[None]:
    """Lend a module another ``forward``."""
    own = model.__dict__.get("forward")
    model.__dict__["forward"] = forward
    try:
        yield
    finally:
        if own is None:
            del model.__dict__["forward"]
        else:
            model.__dict__["forward"] = own


@contextlib.contextmanager
def borrowed_buffers(model: nn.Module) -> Iterator[None]:
    """Lend modules copies of their buffers, so that what they write is forgotten.

    Norm layers keep theirs: the pass's role already sees to it that their statistics rest.
    """
    own = [
        (module, name, buffer)
        for module in model.modules()
        if not isinstance(module, _NormBase)
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    copies = {id(buffer): buffer.clone() for _, _, buffer in own}
    try:
        for module, name, buffer in own:
            module._buffers[name] = copies[id(buffer)]
        yield
    finally:
        for module, name, buffer in own:
            module._buffers[name] = buffer


def random_state() -> Callable[[], None]:
    """Return a function that gives back the numbers drawn from the global generators since."""
    devices = range(torch.cuda.device_count()) if torch.cuda._initialized else ()
    cpu, cuda = torch.get_rng_state(), [torch.cuda.get_rng_state(device) for device in devices]
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002  models may draw from it

    def give_back() -> None:
        torch.set_rng_state(cpu)
        for device, state in zip(devices, cuda, strict=True):
            torch.cuda.set_rng_state(state, device)
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002

    return give_back
