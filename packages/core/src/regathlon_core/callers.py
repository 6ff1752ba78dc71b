"""Which module of a model is running, as the call stack tells: for messages and for rules that go by a layer's name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import FrameType


def running_module(names: Mapping[int, str]) -> str:
    """Return the name of the innermost module that is running, or an empty string.

    Args:
        names: Names of a model's modules by their ``id``.

    Example:
        >>> from torch import nn
        >>> class Asks(nn.Module):
        ...     def forward(self, names):
        ...         return running_module(names)
        >>> model = nn.ModuleDict({"inner": Asks()})
        >>> model["inner"]({id(module): name for name, module in model.named_modules()})
        'inner'
    """
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        # Only methods are of interest; reading every frame's variables would be slow.
        if frame.f_code.co_varnames[:1] == ("self",):
            name = names.get(id(frame.f_locals.get("self")))
            if name is not None:
                return name
        frame = frame.f_back
    return ""
