"""What a run shows: its tables, the ranks over them, and what stands in the way of reading them.

Made once from a run directory; the terminal, the exports and the page write down the same numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from regathlon.leaderboard import Row, Table, leaderboard
from regathlon.results import Outcome, Results
from regathlon_core.errors import unknown
from regathlon_core.statistics import CriticalDifference, TestMethod, critical_difference_diagram

EXPLAINED: Mapping[str, str] = {
    "last": "the last epoch",
    "best_val": "the epoch that is best on the validation split",
    "oracle": "the epoch that is best on the test split, which is no fair protocol",
}
"""What each selection reads."""


@dataclass(frozen=True)
class Ranking:
    """Methods ranked over several tables.

    Attributes:
        diagram: Average ranks, Friedman's test, critical difference and groups; its tasks are tables'
            titles.
        methods_left_out: Methods that are not ranked, with the tables (of those ranked over) that they lack.
        tables_left_out: Tables that are not ranked over, with the ranked methods that they lack.
    """

    diagram: CriticalDifference
    methods_left_out: Mapping[str, tuple[str, ...]]
    tables_left_out: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Analysis:
    """A run, analysed.

    Attributes:
        folder: The run directory.
        suite: Name of its suite.
        title: Title of its suite; the name where it has none.
        selection: Which epoch all results are read from.
        alpha: Probability of any false claim in a table.
        test: The paired test.
        tables: One per task and model.
        ranking: Methods over tables; None where fewer than two methods or tables can be ranked.
        counts: Number of cells by status.
        problems: What a reader must know first, one sentence each: unfinished, damaged, mixed versions.
        environments: Number of finished trials by version or device, for each of ``torch``, ``device``, ...
        difference: The gain that ``Row.more_seeds`` is for; None for the measured one.
    """

    folder: Path
    suite: str
    title: str
    selection: str
    alpha: float
    test: TestMethod
    tables: tuple[Table, ...]
    ranking: Ranking | None
    counts: Mapping[str, int]
    problems: tuple[str, ...]
    environments: Mapping[str, Mapping[str, int]]
    difference: float | None = None


def analyze(
    results: Results,
    selection: str | None = None,
    *,
    test: TestMethod = "permutation",
    alpha: float = 0.05,
    difference: float | None = None,
) -> Analysis:
    """Analyse a run.

    Args:
        results: As read.
        selection: Which epoch to read; None for the suite's.
        test: The paired test.
        alpha: Probability of any false claim in a table, in (0, 1).
        difference: The gain that ``Row.more_seeds`` is for, in the metric's unit; None for the measured one.

    Raises:
        UserError: There is no such selection, or alpha is outside (0, 1).
    """
    selection = selection or results.selection
    if selection not in EXPLAINED:
        raise unknown("selection", selection, EXPLAINED)
    tables = leaderboard(results, selection, test=test, alpha=alpha, difference=difference)
    mixed = environments(results.outcomes)
    return Analysis(
        folder=results.folder,
        suite=results.suite,
        title=results.title or results.suite,
        selection=selection,
        alpha=alpha,
        test=test,
        tables=tables,
        ranking=rank(tables, alpha),
        counts=results.counts(),
        problems=tuple(_problems(results, mixed)),
        environments=mixed,
        difference=difference,
    )


def rank(tables: Sequence[Table], alpha: float = 0.05) -> Ranking | None:
    """Rank methods over tables.

    Ranks need every method in every table, on the same seeds and with the same budget. Of all ways to leave
    out methods or tables, the one that keeps most scores is taken; it depends on which scores there are, never
    on what they are.

    Args:
        tables: Of a run.
        alpha: Level of Friedman's and Nemenyi's tests.

    Returns:
        None where no two methods share two tables.
    """
    present = {table.title: _balanced(table) for table in tables}
    block = _largest_block(present)
    if block is None:
        return None
    titles, methods = block
    means = {method: {title: present[title][method].summary.mean for title in titles} for method in methods}
    every = dict.fromkeys(method for rows in present.values() for method in rows)
    return Ranking(
        diagram=critical_difference_diagram(
            means,
            lower_is_better=[table.title for table in tables if table.lower_is_better],
            alpha=alpha,
        ),
        methods_left_out={
            method: tuple(title for title in titles if method not in present[title])
            for method in every
            if method not in methods
        },
        tables_left_out={
            title: tuple(method for method in methods if method not in present[title])
            for title in present
            if title not in titles
        },
    )


def _balanced(table: Table) -> dict[str, Row]:
    """Return the rows that stand on the same seeds and budget as most of the table."""
    scored = [row for row in table.rows if row.scored]
    basis = Counter((tuple(row.scores), row.budget) for row in scored)
    if not basis:
        return {}
    common = max(basis, key=lambda key: (basis[key], len(key[0])))
    return {row.name: row for row in scored if (tuple(row.scores), row.budget) == common}


def _largest_block(present: Mapping[str, Mapping[str, Row]]) -> tuple[list[str], list[str]] | None:
    """Return the tables and methods of the largest rectangle without a hole: most scores, then most tables."""
    every = list(dict.fromkeys(method for rows in present.values() for method in rows))
    of = {method: frozenset(title for title in present if method in present[title]) for method in every}
    candidates = {frozenset(present), *of.values()}
    candidates |= {first & second for first, second in combinations(set(of.values()), 2)}
    best: tuple[list[str], list[str]] | None = None
    for titles in sorted(candidates, key=lambda titles: (-len(titles), sorted(titles))):
        methods = [method for method in every if of[method] >= titles]
        if len(titles) < 2 or len(methods) < 2:
            continue
        if best is None or len(titles) * len(methods) > len(best[0]) * len(best[1]):
            best = [title for title in present if title in titles], methods
    return best


def environments(outcomes: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """Return how many finished trials were made with each version and on each device, by what it is of."""
    found: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        environment = outcome.environment
        if outcome.status != "done" or not environment:
            continue
        packages = environment.get("packages") or {}
        values = {name: environment.get(name) for name in ("python", "torch", "device", "cpu", "platform")}
        for name, value in {**values, **{key: packages[key] for key in packages if key != "torch"}}.items():
            if value is not None:
                found.setdefault(name, Counter())[str(value)] += 1
    return {name: dict(counter) for name, counter in found.items()}


def _problems(results: Results, environments: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    counts = results.counts()
    waiting = counts["planned"] + counts["running"]
    if waiting:
        yield (
            f"{waiting} of {_count(len(results.outcomes) - counts['skipped'], 'trial')} "
            f"{'is' if waiting == 1 else 'are'} not done yet: means are over the seeds that are."
        )
    if damaged := sum(outcome.damaged for outcome in results.outcomes):
        yield f"{_count(damaged, 'result')} cannot be used (see the rows) and counted as not run."
    if failed := counts["failed"] + counts["oom"]:
        yield f"{_count(failed, 'trial')} failed and have no score."
    mixed = {name: values for name, values in environments.items() if len(values) > 1}
    devices: dict[str, Mapping[str, int]] = {
        name: mixed.pop(name) for name in ("device", "cpu") if name in mixed
    }
    mixed.pop("platform", None)
    if mixed:
        yield f"Trials were made with different versions: {_listed(mixed)}."
    if devices:
        yield f"Trials ran on different machines, so that seconds cannot be compared: {_listed(devices)}."


def _listed(values: Mapping[str, Mapping[str, int]]) -> str:
    return "; ".join(
        f"{name} " + ", ".join(f"{value} ({_count(number, 'trial')})" for value, number in found.items())
        for name, found in values.items()
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
