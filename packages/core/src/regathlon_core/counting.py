"""Counts floating-point operations, without those that only learn how a model is built."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch.utils.flop_counter import FlopCounterMode

_open: list[FlopCounter] = []


class FlopCounter:
    """Counts the operations of what runs inside the ``with`` block, by torch's FlopCounterMode.

    Example:
        >>> import torch
        >>> x = torch.ones(4, 4)
        >>> with FlopCounter() as counter:
        ...     _ = x @ x
        ...     with not_counted():
        ...         _ = x @ x
        >>> counter.flops
        128.0
    """

    def __init__(self) -> None:
        self._mode = FlopCounterMode(display=False)
        self._left_out = 0.0

    @property
    def flops(self) -> float:
        """Operations so far."""
        return float(self._mode.get_total_flops()) - self._left_out

    def __enter__(self) -> FlopCounter:
        self._mode.__enter__()  # type: ignore[no-untyped-call]
        _open.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        _open.remove(self)
        self._mode.__exit__(*exception)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def not_counted() -> Iterator[None]:
    """Leave out what runs inside: a pass that each process makes once.

    Counted, it would tell a resumed training from one that was never interrupted.
    """
    before = [(counter, counter.flops) for counter in _open]
    try:
        yield
    finally:
        for counter, flops in before:
            counter._left_out += counter.flops - flops
