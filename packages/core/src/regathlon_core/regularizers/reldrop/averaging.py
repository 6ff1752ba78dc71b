"""Looking at a model through the moving average of its weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def lent_weights(model: nn.Module, weights: Sequence[Tensor]) -> Iterator[None]:
    """Give a model other weights inside the block, in the order of its parameters; buffers stay.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> before = model.weight.item()
        >>> with lent_weights(model, [torch.full((1, 1), 3.0)]):
        ...     model(torch.ones(1, 1)).item()
        3.0
        >>> model.weight.item() == before
        True
    """
    own = [(parameter, parameter.data) for parameter in model.parameters()]
    try:
        for (parameter, _), weight in zip(own, weights, strict=True):
            parameter.data = weight
        yield
    finally:
        for parameter, data in own:
            parameter.data = data


@torch.no_grad()
def move_averages(averages: Sequence[Tensor], model: nn.Module, decay: float) -> None:
    """Move averages towards a model's parameters: a ← decay·a + (1 - decay)·w."""
    for average, parameter in zip(averages, model.parameters(), strict=True):
        average.lerp_(parameter.to(average.dtype), 1 - decay)
