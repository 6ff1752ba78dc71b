"""Learning curves: a metric by epoch, over the seeds of a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from regathlon.leaderboard import Row
from regathlon.page.charts import Curve
from regathlon.page.looks import Look
from regathlon.results import Outcome
from regathlon_core.statistics import summarize

POINTS = 60
"""Of a curve at most: more cannot be told apart on a page."""

Reader = Callable[[Mapping[str, Any]], Any]
"""Takes what a curve shows from an epoch's record."""


def validation(metric: str) -> Reader:
    """Return the reader of a metric on the validation split."""

    def read(record: Mapping[str, Any]) -> Any:
        values = record.get("val")
        return values.get(metric) if isinstance(values, Mapping) else None

    return read


def training_loss(record: Mapping[str, Any]) -> Any:
    """Read the training loss."""
    return record.get("train_loss")


def curve(row: Row, trials: Mapping[str, Outcome], read: Reader, look: Look) -> Curve | None:
    """Return a row's curve over the epochs that all its finished trials have; None where there is none.

    Epochs that only some seeds have are left out, as a mean over other seeds would jump there.

    Args:
        row: Of a leaderboard.
        trials: Outcomes by id.
        read: What to show.
        look: Of the series.
    """
    histories = [
        _history(outcome, read)
        for identity in row.trials
        if (outcome := trials.get(identity)) is not None and outcome.status == "done"
    ]
    if not histories:
        return None
    shared = sorted(set(histories[0]).intersection(*histories[1:]))
    epochs = thinned(shared, POINTS)
    if not epochs:
        return None
    values = [[history[epoch] for history in histories] for epoch in epochs]
    return Curve(
        look,
        epochs,
        [summarize(at).mean for at in values],
        [min(at) for at in values],
        [max(at) for at in values],
    )


def thinned(values: Sequence[float], count: int) -> list[float]:
    """Return at most so many of the values, evenly, with the first and the last.

    Example:
        >>> thinned([1, 2, 3, 4, 5, 6, 7], 4)
        [1, 3, 5, 7]
    """
    if len(values) <= count:
        return list(values)
    step = (len(values) - 1) / (count - 1)
    return [values[round(index * step)] for index in range(count)]


def _history(outcome: Outcome, read: Reader) -> dict[float, float]:
    """Return finite values by epoch."""
    records = (outcome.result or {}).get("history")
    found = {}
    for record in records if isinstance(records, list) else ():
        if not isinstance(record, Mapping) or not isinstance(record.get("epoch"), int | float):
            continue
        value = read(record)
        if isinstance(value, int | float) and math.isfinite(value):
            found[float(record["epoch"])] = float(value)
    return found
