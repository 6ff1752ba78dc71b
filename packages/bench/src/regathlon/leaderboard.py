"""Leaderboards: a suite's results by task, model and regularizer, over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from regathlon.results import FAILURES, Outcome, Results
from regathlon.summary import Summary, paired_gain, summarize

BASELINE = "none"


@dataclass(frozen=True)
class Row:
    """A regularizer on one task.

    Attributes:
        regularizer: As the suite writes it.
        score: The leading metric over seeds; None where no trial is done.
        gain: Over the baseline, paired by seed, positive where better; None where there is no pair.
        seconds: Mean training time.
        time_ratio: Training time over the baseline's; None where that is unknown.
        flops: Mean floating-point operations of a training.
        flops_ratio: Over the baseline's.
        note: Why trials are missing, in words.
    """

    regularizer: str
    score: Summary | None
    gain: Summary | None = None
    seconds: float | None = None
    time_ratio: float | None = None
    flops: float | None = None
    flops_ratio: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Table:
    """A task's leaderboard."""

    task: str
    dataset: str | None
    model: str | None
    metric: str
    lower_is_better: bool
    rows: tuple[Row, ...]


def leaderboard(results: Results, selection: str | None = None) -> tuple[Table, ...]:
    """Aggregate results: one table per task and model, best regularizer first, those without a score last.

    Args:
        results: Of a run.
        selection: Which epoch to read; None for the suite's.
    """
    selection = selection or results.selection
    groups: dict[tuple[str, str | None], dict[str, list[Outcome]]] = {}
    for outcome in results.outcomes:
        cell = outcome.cell
        regularizers = groups.setdefault((cell["task"], cell["model"]), {})
        regularizers.setdefault(cell["regularizer"], []).append(outcome)
    return tuple(_table(task, model, cells, selection) for (task, model), cells in groups.items())


def notes(table: Table) -> list[tuple[str, str]]:
    """Return what is to be said below a table: about whom (empty where the note says it), and the note."""
    groups: dict[str, list[str]] = {}
    for row in table.rows:
        if row.note:
            groups.setdefault(row.note, []).append(row.regularizer)
    return [
        ("" if len(names) == 1 and names[0] in note else f"{', '.join(names)}: ", note)
        for note, names in groups.items()
    ]


def _table(task: str, model: str | None, cells: dict[str, list[Outcome]], selection: str) -> Table:
    everything = [outcome for outcomes in cells.values() for outcome in outcomes]
    lower = any(outcome.cell.get("lower_is_better") for outcome in everything)
    baseline = cells.get(BASELINE, [])
    rows = [_row(name, outcomes, baseline, selection, lower) for name, outcomes in cells.items()]
    scored = [row for row in rows if row.score is not None]
    scored.sort(key=lambda row: row.score.mean if row.score else 0.0, reverse=not lower)
    return Table(
        task=task,
        dataset=everything[0].cell.get("dataset"),
        model=model,
        metric=next((outcome.metric for outcome in everything if outcome.metric), ""),
        lower_is_better=lower,
        rows=(*scored, *(row for row in rows if row.score is None)),
    )


def _row(
    name: str, outcomes: Sequence[Outcome], baseline: Sequence[Outcome], selection: str, lower: bool
) -> Row:
    scores, of_baseline = _scores(outcomes, selection), _scores(baseline, selection)
    seconds, flops = _cost(outcomes, "train_seconds"), _cost(outcomes, "train_flops")
    return Row(
        regularizer=name,
        score=summarize(list(scores.values())),
        gain=paired_gain(scores, of_baseline, lower_is_better=lower) if name != BASELINE else None,
        seconds=seconds,
        time_ratio=_ratio(seconds, _cost(baseline, "train_seconds")),
        flops=flops,
        flops_ratio=_ratio(flops, _cost(baseline, "train_flops")),
        note=_note(outcomes, selection),
    )


def _scores(outcomes: Sequence[Outcome], selection: str) -> dict[int, float]:
    found = {
        outcome.cell["seed"]: outcome.score(selection) for outcome in outcomes if outcome.status == "done"
    }
    return {seed: score for seed, score in found.items() if score is not None}


def _cost(outcomes: Sequence[Outcome], name: str) -> float | None:
    values = [
        outcome.cost[name] for outcome in outcomes if outcome.status == "done" and outcome.cost.get(name)
    ]
    return statistics.fmean(values) if values else None


def _ratio(value: float | None, baseline: float | None) -> float | None:
    return value / baseline if value is not None and baseline else None


def _note(outcomes: Sequence[Outcome], selection: str) -> str | None:
    """Return why cells have no score: each reason once, with the seeds where not all share it."""
    reasons: dict[str, list[int]] = {}
    for outcome in outcomes:
        if outcome.status == "done":
            reason = outcome.selected(selection).get("unavailable")
            if reason is None:
                continue
        elif outcome.status in FAILURES:
            reason = f"{outcome.status}: {outcome.reason}"
        elif outcome.status == "skipped":
            reason = f"skipped: {outcome.reason}"
        else:
            reason = f"{outcome.status}{f': {outcome.reason}' if outcome.reason else ''}"
        reasons.setdefault(reason, []).append(outcome.cell["seed"])
    parts = []
    for reason, seeds in reasons.items():
        some = len(seeds) < len(outcomes)
        parts.append(f"seed {', '.join(map(str, seeds))}: {reason}" if some else reason)
    return "; ".join(parts) or None
