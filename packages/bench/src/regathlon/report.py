"""Leaderboards on the terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from regathlon.export import cells, heading
from regathlon.leaderboard import Table, leaderboard, notes
from regathlon.results import Results

_EXPLAINED = {
    "last": "the last epoch",
    "best_val": "the epoch that is best on the validation split",
    "oracle": "the epoch that is best on the test split, which is no fair protocol",
}


def print_report(results: Results, console: Console, selection: str | None = None) -> None:
    """Print every task's leaderboard.

    Args:
        results: Of a run.
        console: Where to.
        selection: Which epoch to read; None for the suite's.
    """
    selection = selection or results.selection
    tables = leaderboard(results, selection)
    for table in tables:
        console.print(render(table))
    counts = results.counts()
    stood = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    console.print(
        Text.assemble(
            (f"{results.title or results.suite}", "bold"),
            f": {stood}. Test results of {_EXPLAINED.get(selection, selection)} (selection: {selection}), ",
            "mean ± sample standard deviation (seeds); gain over none is paired by seed.",
        )
    )


def render(table: Table) -> RenderableType:
    """Return a task's leaderboard."""
    grid = RichTable(box=None, padding=(0, 2, 0, 0), header_style="dim")
    grid.add_column("regularizer", overflow="fold", no_wrap=False)
    score = f"{table.metric or 'score'}{' (lower is better)' if table.lower_is_better else ''}"
    for name in (score, "gain over none", "training time", "FLOPs"):
        grid.add_column(name, justify="right", no_wrap=True)
    for row in table.rows:
        grid.add_row(*cells(row), style="" if row.score is not None else "dim")
    said = [Text.assemble((who, "yellow"), (note, "dim")) for who, note in notes(table)]
    title = Text(heading(table), style="bold")
    return Group(title, Padding(Group(grid, *said), (0, 0, 1, 2), expand=False))
