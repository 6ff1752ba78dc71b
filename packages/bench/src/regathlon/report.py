"""Leaderboards on the terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from regathlon import wording
from regathlon.analysis import EXPLAINED, Analysis, Ranking
from regathlon.leaderboard import Row, Table

_WIDE = 120
"""Columns of a terminal that show intervals and floating-point operations too."""


def print_report(analysis: Analysis, console: Console) -> None:
    """Print every task's leaderboard, the ranks over them, and what must be known to read them."""
    for table in analysis.tables:
        console.print(render(table, wide=console.width >= _WIDE))
    if analysis.ranking is not None:
        console.print(_render_ranking(analysis.ranking))
    counts = ", ".join(f"{count} {status}" for status, count in sorted(analysis.counts.items()))
    console.print(
        Text.assemble(
            (analysis.title, "bold"),
            f": {counts}. Test results of {EXPLAINED[analysis.selection]} (selection: {analysis.selection}), ",
            "mean ± sample standard deviation (seeds). Gains over none are paired by seed; their intervals and "
            "p-values hold for a whole table at once. More seeds: how many would show a gain of this size (power 0.8).",
        )
    )
    for problem in analysis.problems:
        console.print(Text(problem, style="yellow"))


def render(table: Table, *, wide: bool = True) -> RenderableType:
    """Return a task's leaderboard.

    Args:
        table: What to show.
        wide: Whether there is room for every column.
    """
    grid = RichTable(box=None, padding=(0, 2, 0, 0), header_style="dim")
    grid.add_column("regularizer", overflow="fold", no_wrap=False)
    columns = [wording.metric(table), "gain over none", "p", "more seeds", "training time"]
    for name in (*columns, "FLOPs") if wide else columns:
        grid.add_column(name, justify="right", no_wrap=True)
    for row in table.rows:
        grid.add_row(*_cells(row, wide), style="" if row.scored else "dim")
    said = [Text.assemble((who, "yellow"), (note, "dim")) for who, note in wording.notes(table)]
    claims = [Text(claim, style="dim") for claim in wording.claims(table)]
    title = Text.assemble((table.title, "bold"), (f"  selection: {table.selection}", "dim"))
    return Group(title, Padding(Group(grid, *claims, *said), (0, 0, 1, 2), expand=False))


def _cells(row: Row, wide: bool) -> list[Text]:
    score = Text(wording.mean_and_spread(row.summary) + (" *" if row.bold else "  "))
    if row.bold:
        score.stylize("bold")
    gain = wording.gain(row.gain) if wide else wording.gain(row.gain).partition(" [")[0]
    cells = [
        gain,
        wording.p_value(row.gain.adjusted_p if row.gain else None),
        wording.more_seeds(row),
        wording.seconds(row),
    ]
    return [Text(row.name), score, *map(Text, (*cells, wording.flops(row)) if wide else cells)]


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
