"""What the page shows in tables: plain cells with what they sort by, and the tables of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from regathlon import wording
from regathlon.analysis import Analysis, Ranking
from regathlon.leaderboard import Missing, Row, Table
from regathlon.ledger import VERDICTS, Entry
from regathlon.page.looks import Look
from regathlon.results import Outcome
from regathlon_core.statistics import Interval, Summary

NOTHING = wording.NOTHING


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        label: In the head.
        numeric: Whether it is set and sorted as numbers.
        hint: What it is, in a sentence.
        largest_first: Whether the first click on the head puts the largest first.
    """

    label: str
    numeric: bool = True
    hint: str = ""
    largest_first: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: What is shown.
        key: What it sorts by, where that is not the text; None where there is nothing to sort by.
        strong: Bold: the best, or not distinguishable from it.
        quiet: Set back: there is no number.
        hint: More than fits.
        look: Of the series that the row is, for its sign.
        trial: Id of the trial whose details it opens.
        badge: A status to colour it by.
        mark: Said for those who do not see bold.
    """

    text: str
    key: float | str | None = None
    strong: bool = False
    quiet: bool = False
    hint: str = ""
    look: Look | None = None
    trial: str | None = None
    badge: str | None = None
    mark: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a table, with what filters ask for."""

    cells: tuple[Cell, ...]
    task: str = ""
    regularizer: str = ""
    status: str = ""


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        caption: What it is.
        columns: Its head.
        lines: In the order to show them first.
        sorted_by: The column that they are sorted by at first; None for the plan's order.
        descending: Whether the largest is first.
    """

    caption: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    sorted_by: int | None = None
    descending: bool = False


def number(value: float | None, text: str | None = None, hint: str = "") -> Cell:
    """Return a cell with a number, or with a dash where there is none."""
    if value is None or not math.isfinite(value):
        return Cell(NOTHING, None, quiet=True, hint=hint)
    return Cell(f"{value:.4f}" if text is None else text, value, hint=hint)


def interval(found: Interval, *, signed: bool = False) -> str:
    """Write an interval; nothing where the values cannot tell.

    Example:
        >>> interval(Interval(0.91, 0.93, 0.95, "t")), interval(Interval(float("nan"), 0.0, 0.95, "t"))
        ('[0.9100, 0.9300]', '–')
    """
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return NOTHING
    sign = "+" if signed else ""
    return f"[{found.low:{sign}.4f}, {found.high:{sign}.4f}]"


def spread(found: Summary) -> str:
    """Write mean ± sample standard deviation.

    Example:
        >>> spread(Summary(3, 0.91, 0.02)), spread(Summary(0, float("nan"), float("nan")))
        ('0.9100 ± 0.0200', '–')
    """
    if not found.n:
        return NOTHING
    return f"{found.mean:.4f}" + (f" ± {found.std:.4f}" if math.isfinite(found.std) else "")


def of_task(table: Table, looks: Mapping[str, Look]) -> Grid:
    """Return the leaderboard of a task and model."""
    level = f"{1 - table.alpha:.0%}"
    columns = (
        Column("regularizer", numeric=False),
        Column(
            wording.metric(table),
            hint=f"mean ± sample standard deviation over seeds, test split, selection: {table.selection}",
            largest_first=not table.lower_is_better,
        ),
        Column(f"{level} interval", hint="of the mean, Student's t"),
        Column("seeds", hint="trials with a score", largest_first=True),
        Column(
            "gain over none",
            hint="paired by seed, positive is better; intervals hold for all gains of the table at once",
            largest_first=True,
        ),
        Column("p", hint="of the gain, adjusted by Holm over all pairs of the table"),
        Column("more seeds", hint="how many more seeds would show a gain of this size, with power 0.8"),
        Column("training time", hint="mean over seeds; in brackets: over the baseline's"),
        Column("FLOPs", hint="of a training, mean over seeds; in brackets: over the baseline's"),
        Column("memory", hint="peak while training, mean over seeds"),
    )
    lines = tuple(
        Line(_cells(row, table, looks[row.name]), table.title, row.name, status(row)) for row in table.rows
    )
    return Grid(
        f"Leaderboard of {table.title}", columns, lines, sorted_by=1, descending=columns[1].largest_first
    )


def _cells(row: Row, table: Table, look: Look) -> tuple[Cell, ...]:
    costs = row.costs
    memory = None if costs.peak_memory_mb is None else f"{costs.peak_memory_mb:.0f} MiB"
    name = Cell(row.name, row.name, look=look, strong=row.bold, mark=_mark(row, table))
    if not row.scored:
        why = "; ".join(wording.missing(found) for found in row.missing)
        empty = (Cell(NOTHING, None, quiet=True),) * 8
        return (name, Cell(status(row), None, quiet=True, hint=why), *empty)
    gain = row.gain
    return (
        name,
        Cell(spread(row.summary), row.summary.mean, strong=row.bold, hint=_best(row)),
        Cell(interval(row.interval), _finite(row.interval.low), quiet=not math.isfinite(row.interval.low)),
        Cell(str(row.summary.n), row.summary.n),
        Cell(
            _gain(row), _finite(gain.gain) if gain else None, quiet=gain is None,
            hint="claimed: the difference from the baseline is significant" if gain and gain.claimed else "",
        ),
        Cell(wording.p_value(gain.adjusted_p if gain else None), gain.adjusted_p if gain else None, quiet=not gain),
        Cell(wording.more_seeds(row), row.more_seeds, quiet=row.more_seeds is None),
        number(costs.train_seconds, wording.seconds(row)),
        number(costs.train_flops, wording.flops(row)),
        number(costs.peak_memory_mb, memory, hint=_ratio(costs.memory_ratio)),
    )  # fmt: skip


def _gain(row: Row) -> str:
    if row.gain is None:
        return NOTHING
    claimed = ("▲ " if row.gain.gain > 0 else "▼ ") if row.gain.claimed else ""
    known = math.isfinite(row.gain.interval.low)
    return f"{claimed}{row.gain.gain:+.4f}" + (
        f" {interval(row.gain.interval, signed=True)}" if known else ""
    )


def _best(row: Row) -> str:
    return "" if row.p_best is None else f"p of the difference from the best: {wording.p_value(row.p_best)}"


def _mark(row: Row, table: Table) -> str:
    if not row.bold:
        return ""
    return "best" if row is table.rows[0] else "not distinguishable from the best"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}× the baseline's"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def status(row: Row) -> str:
    """Return where a row stands: ``done`` if it has a score, else what happened to its trials."""
    if row.scored:
        return "done"
    found = dict.fromkeys(missing.status for missing in row.missing)
    return "no score" if set(found) <= {"done"} else ", ".join(found)


def all_metrics(table: Table, looks: Mapping[str, Look]) -> Grid | None:
    """Return every metric of a table's rows; None where there is none but the leading one."""
    names = list(dict.fromkeys(name for row in table.rows for name in row.metrics))
    if set(names) <= {table.metric}:
        return None
    columns = (
        Column("regularizer", numeric=False),
        *(Column(name, largest_first=not table.lower_is_better) for name in names),
    )
    lines = []
    for row in table.rows:
        if row.metrics:
            values = [row.metrics.get(name) for name in names]
            cells = [number(value.mean, spread(value)) if value else number(None) for value in values]
            name = Cell(row.name, row.name, look=looks[row.name])
            lines.append(Line((name, *cells), table.title, row.name, "done"))
    return Grid(f"All metrics of {table.title}, mean ± sample standard deviation", columns, tuple(lines))


def overall(analysis: Analysis, looks: Mapping[str, Look]) -> Grid:
    """Return the leaderboard over all tasks: average rank, and the score on each."""
    rows = {table.title: {row.name: row for row in table.rows} for table in analysis.tables}
    names = list(dict.fromkeys(name for found in rows.values() for name in found))
    ranking = analysis.ranking
    average = ranking.diagram.ranks.average if ranking else {}
    names.sort(key=lambda name: average.get(name, math.inf))
    columns = [Column("regularizer", numeric=False)]
    if ranking:
        count = len(ranking.diagram.ranks.tasks)
        columns.append(Column("average rank", hint=f"over {count} tables; 1 is best, ties shared"))
    columns += [
        Column(
            table.title,
            hint=f"{wording.metric(table)}, mean over seeds",
            largest_first=not table.lower_is_better,
        )
        for table in analysis.tables
    ]
    lines = []
    for name in names:
        cells = [Cell(name, name, look=looks[name])]
        if ranking:
            cells.append(_rank(name, ranking))
        cells += [_score(rows[table.title].get(name), table) for table in analysis.tables]
        lines.append(Line(tuple(cells), "", name, ""))
    return Grid(
        "Scores of all regularizers on all tasks", tuple(columns), tuple(lines), 1 if ranking else None
    )


def _rank(name: str, ranking: Ranking) -> Cell:
    average = ranking.diagram.ranks.average
    if name in average:
        return Cell(f"{average[name]:.2f}", average[name])
    lacks = ", ".join(ranking.methods_left_out.get(name, ()))
    return Cell(NOTHING, None, quiet=True, hint=f"not ranked: has no comparable score on {lacks}")


def _score(row: Row | None, table: Table) -> Cell:
    if row is None:
        return Cell(NOTHING, None, quiet=True, hint="not in the suite")
    if not row.scored:
        return Cell(status(row), None, quiet=True, hint="; ".join(map(wording.missing, row.missing)))
    more = f"{table.metric} {spread(row.summary)}, {interval(row.interval)}, {row.summary.n} seeds"
    return Cell(
        f"{row.summary.mean:.4f}", row.summary.mean, strong=row.bold, hint=more, mark=_mark(row, table)
    )


def missing(tables: Sequence[Table]) -> Grid:
    """Return what has no score, and why."""
    columns = (
        Column("task", numeric=False),
        Column("regularizer", numeric=False),
        Column("status", numeric=False),
        Column("seeds", numeric=False),
        Column("reason", numeric=False),
    )
    lines = [
        Line(
            (
                Cell(table.title),
                Cell(row.name),
                Cell(found.status, badge=found.status),
                Cell("all" if found.all else ", ".join(map(str, found.seeds))),
                Cell(_reason(found)),
            ),
            table.title,
            row.name,
            found.status,
        )
        for table in tables
        for row in table.rows
        for found in row.missing
    ]
    return Grid("Cells without a score", columns, tuple(lines))


def _reason(found: Missing) -> str:
    return found.reason or {"planned": "not run yet", "running": "at work"}.get(found.status, NOTHING)


def printed(entries: Sequence[Entry]) -> Grid:
    """Return the ledger: what papers printed, what was measured, and what differs."""
    columns = (
        Column("paper", numeric=False),
        Column("data and model in the paper", numeric=False),
        Column("method", numeric=False),
        Column("metric", numeric=False),
        Column("printed", hint="with its spread over runs, where the paper has one", largest_first=True),
        Column(
            "measured",
            hint="mean ± sample standard deviation over seeds, in the paper's unit",
            largest_first=True,
        ),
        Column("difference", hint="measured minus printed, with its 95 % interval", largest_first=True),
        Column("verdict", numeric=False, hint="reproduced: the difference is shown to lie within the margin"),
        Column("measured on, and what differs", numeric=False),
    )
    return Grid("Printed and measured numbers", columns, tuple(map(_entry, entries)))


def _entry(entry: Entry) -> Line:
    paper = entry.printed
    known = math.isfinite(entry.interval.low)
    ends = f" [{entry.interval.low:+.2f}, {entry.interval.high:+.2f}]" if known else ""
    measured = f"{entry.measured.mean:.2f}" + (
        f" ± {entry.measured.std:.2f} ({entry.measured.n})" if entry.measured.n > 1 else " (1)"
    )
    remarks = [f"{entry.task} ({entry.model}), {entry.regularizer}", *entry.differs]
    remarks += [f"misprint: {paper.misprint}"] if paper.misprint else []
    cells = (
        Cell(f"{entry.paper}, {paper.table}"),
        Cell(f"{paper.dataset}, {paper.model}"),
        Cell(paper.method),
        Cell(paper.metric),
        Cell(paper.printed + (f" ± {paper.std:g}" if paper.std is not None else ""), paper.value),
        Cell(measured, entry.measured.mean),
        Cell(f"{entry.difference:+.2f}{ends}", entry.difference),
        Cell(entry.verdict, str(VERDICTS.index(entry.verdict)), badge=entry.verdict),
        Cell("; ".join(remarks)),
    )
    return Line(cells, f"{entry.task} ({entry.model})", entry.regularizer, "")


def trials(
    outcomes: Iterable[Outcome], titles: Mapping[str, str], names: Mapping[str, str], selection: str
) -> Grid:
    """Return all trials of a run.

    Args:
        outcomes: Of the run.
        titles: Of the table that a trial is in, by id.
        names: Of the row that a trial is in, by id.
        selection: Which epoch to read.
    """
    columns = (
        Column("trial", numeric=False, hint="opens settings, environment, log and pictures"),
        Column("task", numeric=False),
        Column("regularizer", numeric=False),
        Column("seed"),
        Column("status", numeric=False),
        Column("score", hint="the task's leading metric on the test split", largest_first=True),
        Column("training time"),
        Column("FLOPs"),
    )
    lines = []
    for outcome in outcomes:
        identity = outcome.cell.get("id")
        if identity is None:
            continue
        score, cost = outcome.score(selection), outcome.cost
        seconds, flops = (_number(cost.get(name)) for name in ("train_seconds", "train_flops"))
        title, name = (
            titles.get(identity, outcome.cell["task"]),
            names.get(identity, outcome.cell["regularizer"]),
        )
        seed = outcome.cell["seed"]
        running = (
            f" {outcome.share:.0%}" if outcome.share and outcome.status in ("running", "planned") else ""
        )
        cells = (
            Cell(str(identity)[:8], str(identity), trial=str(identity)),
            Cell(title),
            Cell(name),
            Cell(str(seed), seed),
            Cell(outcome.status + running, outcome.status, badge=outcome.status, hint=outcome.reason or ""),
            number(score, hint=outcome.metric),
            number(seconds, None if seconds is None else f"{seconds:.1f} s"),
            number(flops, None if flops is None else wording.si(flops)),
        )
        lines.append(Line(cells, title, name, outcome.status))
    return Grid("All trials", columns, tuple(lines))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
