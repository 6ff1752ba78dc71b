"""Two runs beside each other: settings, versions, metrics, and whether the differences are real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regathlon.analysis import environments
from regathlon.leaderboard import flat
from regathlon.results import Outcome, Results
from regathlon_core.statistics import (
    Interval,
    PairedTest,
    Seed,
    Summary,
    TestMethod,
    confidence_interval,
    holm,
    paired_test,
    summarize,
)

Key = tuple[str, str, str]
"""Task, model and regularizer, as suites write them."""


@dataclass(frozen=True)
class Compared:
    """A task, model and regularizer in both runs.

    Attributes:
        task: As the suites write it.
        model: Likewise.
        regularizer: Likewise.
        metric: The leading metric, on the test split.
        first: Over the first run's seeds.
        second: Over the second's.
        test: Second minus first on the seeds that both have.
        interval: For that difference, 1 - alpha.
        adjusted_p: Holm's, over all rows.
        settings: What differs between the two, as (name, first's, second's).
        same: Seeds of trials with the same identity and the same numbers.
        changed: Seeds of trials with the same identity and other numbers.
    """

    task: str
    model: str
    regularizer: str
    metric: str
    first: Summary
    second: Summary
    test: PairedTest
    interval: Interval
    adjusted_p: float
    settings: tuple[tuple[str, object, object], ...]
    same: tuple[int, ...]
    changed: tuple[int, ...]


@dataclass(frozen=True)
class RunComparison:
    """Two runs, compared.

    Attributes:
        rows: What both have.
        only_first: Task, model and regularizer of what only the first has.
        only_second: Likewise.
        versions: Versions and machines that differ: name, first's, second's.
        selections: Which epochs are read.
        alpha: Probability of any false claim.
    """

    rows: tuple[Compared, ...]
    only_first: tuple[Key, ...]
    only_second: tuple[Key, ...]
    versions: tuple[tuple[str, str, str], ...]
    selections: tuple[str, str]
    alpha: float


def compare_runs(
    first: Results,
    second: Results,
    selection: str | None = None,
    *,
    test: TestMethod = "permutation",
    alpha: float = 0.05,
) -> RunComparison:
    """Compare two runs, row by row, paired by seed.

    Args:
        first: The one to compare with.
        second: The other.
        selection: Which epoch to read; None for each suite's own.
        test: The paired test.
        alpha: Probability of any false claim in the whole comparison.
    """
    chosen = (selection or first.selection, selection or second.selection)
    ours, theirs = _by_key(first), _by_key(second)
    shared = [key for key in ours if key in theirs]
    tests = {}
    for key in shared:
        a, b = _scores(ours[key], chosen[0]), _scores(theirs[key], chosen[1])
        tests[key] = paired_test(b, a, test)
    adjusted = holm({key: found.p_value for key, found in tests.items()})
    return RunComparison(
        rows=tuple(
            _row(key, ours[key], theirs[key], chosen, tests[key], adjusted[key], alpha) for key in shared
        ),
        only_first=tuple(key for key in ours if key not in theirs),
        only_second=tuple(key for key in theirs if key not in ours),
        versions=tuple(_versions(first, second)),
        selections=chosen,
        alpha=alpha,
    )


def _by_key(results: Results) -> dict[Key, list[Outcome]]:
    found: dict[Key, list[Outcome]] = {}
    for outcome in results.outcomes:
        cell = outcome.cell
        found.setdefault((cell["task"], str(cell["model"]), cell["regularizer"]), []).append(outcome)
    return found


def _scores(outcomes: Sequence[Outcome], selection: str) -> dict[Seed, float]:
    found = {outcome.cell["seed"]: outcome.score(selection) for outcome in outcomes}
    return {seed: score for seed, score in found.items() if score is not None}


def _row(
    key: Key,
    ours: Sequence[Outcome],
    theirs: Sequence[Outcome],
    selections: tuple[str, str],
    test: PairedTest,
    adjusted: float,
    alpha: float,
) -> Compared:
    first, second = _scores(ours, selections[0]), _scores(theirs, selections[1])
    by_id = {outcome.cell.get("id"): outcome for outcome in ours if outcome.status == "done"}
    same: list[int] = []
    changed: list[int] = []
    for outcome in theirs:
        other = by_id.get(outcome.cell.get("id"))
        if outcome.status == "done" and other is not None:
            (same if _numbers(outcome) == _numbers(other) else changed).append(outcome.cell["seed"])
    return Compared(
        *key,
        metric=next((o.metric for o in (*ours, *theirs) if o.metric), ""),
        first=summarize(first.values()),
        second=summarize(second.values()),
        test=test,
        interval=confidence_interval(
            [second[seed] - first[seed] for seed in first if seed in second], 1 - alpha
        ),
        adjusted_p=adjusted,
        settings=tuple(_settings(ours, theirs)),
        same=tuple(same),
        changed=tuple(changed),
    )


def _numbers(outcome: Outcome) -> object:
    """Return what the same trial must give on every machine."""
    return (outcome.result or {}).get("selections")


def _settings(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> list[tuple[str, object, object]]:
    first, second = (_description(outcomes) for outcomes in (ours, theirs))
    if not first or not second:
        return []
    return [
        (name, first.get(name), second.get(name))
        for name in dict.fromkeys((*first, *second))
        if first.get(name) != second.get(name)
    ]


def _description(outcomes: Sequence[Outcome]) -> dict[str, object]:
    described: Mapping[str, Any] = next(
        (o.cell["description"] for o in outcomes if o.cell.get("description")), {}
    )
    found = {key: value for key, value in flat(described).items() if key not in ("seed", "regularizer")}
    for part in described.get("regularizer", ()):
        found |= {f"{part['name']}.{key}": value for key, value in flat(part).items() if key != "name"}
    return found


def _versions(first: Results, second: Results) -> list[tuple[str, str, str]]:
    ours, theirs = environments(first.outcomes), environments(second.outcomes)

    def text(values: Mapping[str, int] | None) -> str:
        return ", ".join(values) if values else "unknown"

    return [
        (name, text(ours.get(name)), text(theirs.get(name)))
        for name in dict.fromkeys((*ours, *theirs))
        if set(ours.get(name, ())) != set(theirs.get(name, ()))
    ]
