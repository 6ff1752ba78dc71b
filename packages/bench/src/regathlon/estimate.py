"""How long the rest will take, from what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any


class Estimator:
    """Learns how long trials take: of the same task and regularizer, else of the task, else of any."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, ...], list[float]] = {}

    def observe(self, cell: Mapping[str, Any], seconds: float) -> None:
        """Note how long a trial took."""
        for key in _keys(cell):
            self._seen.setdefault(key, []).append(seconds)

    def expect(self, cell: Mapping[str, Any]) -> float | None:
        """Return the expected seconds of a trial; None before anything was measured."""
        for key in _keys(cell):
            if key in self._seen:
                return statistics.fmean(self._seen[key])
        return None

    def remaining(
        self,
        waiting: Iterable[Mapping[str, Any]],
        running: Iterable[tuple[Mapping[str, Any], float, float]],
        jobs: int,
    ) -> float | None:
        """Return the expected seconds until all is done; None where nothing is known yet.

        Args:
            waiting: Cells to come.
            running: Cells at work, each with its share done and the seconds it has taken.
            jobs: How many run at a time.
        """
        total = 0.0
        for cell in waiting:
            expected = self.expect(cell)
            if expected is None:
                return None
            total += expected
        longest = 0.0
        for cell, share, seconds in running:
            expected = self.expect(cell)
            if expected is None:
                if share < 0.05:
                    return None
                expected = seconds / share
            left = expected * (1 - share)
            total += left
            longest = max(longest, left)
        return max(total / max(jobs, 1), longest)


def _keys(cell: Mapping[str, Any]) -> list[tuple[str, ...]]:
    task, model, regularizer = str(cell["task"]), str(cell["model"]), str(cell["regularizer"])
    return [(task, model, regularizer), (task, model), (task,), ()]


def duration(seconds: float) -> str:
    """Write seconds for people.

    Example:
        >>> [duration(s) for s in (3.21, 75, 3700)]
        ['3.2 s', '1 min 15 s', '1 h 01 min']
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
