"""Leaderboards on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from regathlon import wording
from regathlon.analysis import EXPLAINED, Analysis, Ranking
from regathlon.leaderboard import Row, Table

_INDENT = 2
_NAME = 24
"""Columns of the terminal that names get at least, where they are as long."""


def print_report(analysis: Analysis, console: Console) -> None:
    """Print every task's leaderboard, the ranks over them, and what must be known to read them."""
    for table in analysis.tables:
        console.print(render(table, console.width))
    if analysis.ranking is not None:
        console.print(_render_ranking(analysis.ranking))
    counts = ", ".join(f"{count} {status}" for status, count in sorted(analysis.counts.items()))
    size = "a gain of this size" if analysis.difference is None else f"a gain of {analysis.difference:g}"
    console.print(
        Text.assemble(
            (analysis.title, "bold"),
            f": {counts}. Test results of {EXPLAINED[analysis.selection]} (selection: {analysis.selection}), ",
            "mean ± sample standard deviation (seeds). Gains over none are paired by seed; their intervals and "
            f"p-values hold for a whole table at once. More seeds: how many would show {size} (power 0.8).",
        )
    )
    for problem in analysis.problems:
        console.print(Text(problem, style="yellow"))


def render(table: Table, width: int = 160) -> RenderableType:
    """Return a task's leaderboard.

    Args:
        table: What to show.
        width: Columns of the terminal; what does not fit is left out, the least important first.
    """
    columns = _fitting(table, width)
    grid = RichTable(box=None, padding=(0, 2, 0, 0), header_style="dim")
    grid.add_column("regularizer", overflow="fold", no_wrap=False)
    for heading, _ in columns:
        grid.add_column(heading, justify="right", no_wrap=True)
    for row in table.rows:
        cells = [Text(cell(row), style="bold" if row.bold and cell is _score else "") for _, cell in columns]
        grid.add_row(Text(row.name), *cells, style="" if row.scored else "dim")
    said = [Text.assemble((who, "yellow"), (note, "dim")) for who, note in wording.notes(table)]
    claims = [Text(claim, style="dim") for claim in wording.claims(table)]
    title = Text.assemble((table.title, "bold"), (f"  selection: {table.selection}", "dim"))
    return Group(title, Padding(Group(grid, *claims, *said), (0, 0, 1, 2), expand=False))


Column = tuple[str, Callable[[Row], str]]
"""A heading and what stands below it."""


def _fitting(table: Table, width: int) -> list[Column]:
    """Return the columns that fit beside the names, and beside at least this much of long ones."""
    score: Column = (wording.metric(table), _score)
    gain: Column = ("gain over none", lambda row: wording.gain(row.gain).partition(" [")[0])
    interval: Column = ("gain over none", lambda row: wording.gain(row.gain))
    p: Column = ("p", lambda row: wording.p_value(row.gain.adjusted_p if row.gain else None))
    more: Column = ("more seeds", wording.more_seeds)
    time: Column = ("training time", wording.seconds)
    flops: Column = ("FLOPs", wording.flops)
    layouts = [
        [score, interval, p, more, time, flops],
        [score, gain, p, more, time, flops],
        [score, gain, p, more, time],
        [score, gain, p, time],
        [score, gain, p],
        [score],
    ]
    room = width - _INDENT - 2 - min(_NAME, max(len(row.name) for row in table.rows))
    return next((columns for columns in layouts if _width(columns, table) <= room), layouts[-1])


def _width(columns: Sequence[Column], table: Table) -> int:
    return sum(2 + max(len(heading), *(len(cell(row)) for row in table.rows)) for heading, cell in columns)


def _score(row: Row) -> str:
    return wording.mean_and_spread(row.summary) + (" *" if row.bold else "  ")


def _render_ranking(ranking: Ranking) -> RenderableType:
    """Return average ranks and groups."""
    diagram = ranking.diagram
    test = diagram.friedman
    grid = RichTable(box=None, padding=(0, 2, 0, 0), header_style="dim")
    grid.add_column("regularizer", overflow="fold")
    grid.add_column("average rank", justify="right", no_wrap=True)
    grid.add_column("group", no_wrap=True)
    for name, average in diagram.ranks.average.items():
        marks = "".join("│ " if name in clique else "  " for clique in diagram.cliques)
        grid.add_row(Text(name), f"{average:.2f}", marks)
    differ = test.permutation_p <= diagram.alpha
    said = [
        f"Friedman's test of {test.k} methods over {test.n} tables: p {wording.p_value(test.permutation_p)}; "
        + (
            f"ranks {diagram.difference:.2f} apart differ (Nemenyi); a line joins those that do not."
            if differ
            else "no method is shown to differ, so a line joins all."
        )
    ]
    if ranking.tables_left_out:
        said.append(
            f"Not ranked over, because a method is missing or has other seeds: {', '.join(ranking.tables_left_out)}."
        )
    if ranking.methods_left_out:
        said.append(
            f"Not ranked, because they are not in all of these tables: {', '.join(ranking.methods_left_out)}."
        )
    return Group(
        Text("Ranks over tasks", style="bold"),
        Padding(Group(grid, *(Text(line, style="dim") for line in said)), (0, 0, 1, 2), expand=False),
    )
