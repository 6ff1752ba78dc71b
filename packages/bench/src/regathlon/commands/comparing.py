"""``regathlon compare`` and ``regathlon merge``: a run beside the papers or another run, two runs made one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from regathlon import wording
from regathlon.analysis import EXPLAINED
from regathlon.cli import DONE, SOME_FAILED
from regathlon.commands.output import err, out, selected, write_json
from regathlon.comparison import Compared, RunComparison, compare_runs
from regathlon.ledger import VERDICTS, Entry, ledger
from regathlon.merging import merge_runs
from regathlon.results import read_results
from regathlon_core.errors import UserError
from regathlon_core.statistics import Interval

_STYLES = {"reproduced": "green", "within the interval": "green", "off": "red", "not comparable": "dim"}


_WIDE = 100
"""Columns of a terminal that show intervals."""
_NAME = 14
"""Columns that names get at least, where they are as long."""


def show_comparison(
    folder: Path, other: Path | None, *, paper: bool, selection: str | None, as_json: bool
) -> None:
    """Print a run beside the papers, or beside another run."""
    if other is not None and paper:
        raise UserError("A run is compared with the papers (--paper) or with another run, not with both.")
    chosen = selected(selection)
    first = read_results(folder)
    if other is None:
        entries = ledger(first, chosen)
        if as_json:
            write_json({"schema": 1, "ledger": [dataclasses.asdict(entry) for entry in entries]})
        else:
            print_ledger(entries, chosen or first.selection, out())
        return
    comparison = compare_runs(first, read_results(other), chosen)
    if as_json:
        write_json({"schema": 1, **dataclasses.asdict(comparison)})
    else:
        print_comparison(comparison, str(folder), str(other), out())


def print_ledger(entries: Sequence[Entry], selection: str, console: Console) -> None:
    """Print what was measured beside what the papers printed."""
    if not entries:
        console.print(
            "Nothing in this run is in a paper's table: no data set, method and metric of it agree."
        )
        return
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        printed = entry.printed
        where = (entry.paper, printed.table, printed.dataset, printed.model, entry.task, entry.model)
        groups.setdefault(where, []).append(entry)
    for (paper, table, dataset, model, task, own), found in groups.items():
        grid = RichTable(box=None, padding=(0, 2, 0, 0), header_style="dim")
        grid.add_column(
            "method", overflow="fold", min_width=min(_NAME, max(len(e.printed.method) for e in found))
        )
        grid.add_column("metric", no_wrap=True)
        wide = console.width >= _WIDE
        for name in ("printed", "measured", f"difference{' [95 %]' if wide else ''}", "verdict"):
            verdict = name == "verdict"
            grid.add_column(name, justify="left" if verdict else "right", no_wrap=not verdict)
        shared = [phrase for phrase in found[0].differs if all(phrase in entry.differs for entry in found)]
        said = [Text(f"differs: {phrase}", style="dim") for phrase in shared]
        for entry in found:
            grid.add_row(*_entry(entry, wide))
            own_words = [phrase for phrase in entry.differs if phrase not in shared]
            said += [Text(f"{entry.printed.method}: differs: {phrase}", style="dim") for phrase in own_words]
            if entry.printed.misprint:
                said.append(
                    Text(f"{entry.printed.method}: misprint: {entry.printed.misprint}", style="yellow")
                )
        title = Text.assemble(
            (f"{paper}, {table}: {dataset}, {model}", "bold"), (f"  measured: {task} ({own})", "dim")
        )
        console.print(Group(title, Padding(Group(grid, *said), (0, 0, 1, 2), expand=False)))
    counts = {verdict: sum(entry.verdict == verdict for entry in entries) for verdict in VERDICTS}
    console.print(
        f"{', '.join(f'{count} {verdict}' for verdict, count in counts.items() if count)}. "
        f"Test results of {EXPLAINED[selection]} (selection: {selection}). Reproduced: shown to lie within the "
        "margin (half a point unless said otherwise) of the printed number.",
        soft_wrap=True,
    )


def _entry(entry: Entry, wide: bool) -> list[Text]:
    printed, measured = entry.printed, entry.measured
    std = "" if printed.std is None else f" ± {printed.std:g}"
    spread = f" ± {measured.std:.2f}" if math.isfinite(measured.std) else ""
    return [
        Text(printed.method),
        Text(printed.metric),
        Text(f"{printed.printed}{std}{' (!)' if printed.misprint else ''}"),
        Text(f"{measured.mean:.2f}{spread} ({measured.n})"),
        Text(f"{entry.difference:+.2f}{_interval(entry.interval, 2) if wide else ''}"),
        Text(entry.verdict, style=_STYLES[entry.verdict]),
    ]


def print_comparison(comparison: RunComparison, first: str, second: str, console: Console) -> None:
    """Print two runs beside each other."""
    grid = RichTable(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for position, name in enumerate(("task", "model", "regularizer")):
        longest = max(
            (len((row.task, row.model, row.regularizer)[position]) for row in comparison.rows), default=1
        )
        grid.add_column(name, overflow="fold", min_width=min(_NAME, longest))
    for name in ("A", "B", "B - A", "p"):
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("trials", overflow="fold")
    for row in comparison.rows:
        grid.add_row(*_compared(row, comparison.alpha))
    selections = " and ".join(dict.fromkeys(comparison.selections))
    console.print(
        Text.assemble(("A", "bold"), f" {first}   ", ("B", "bold"), f" {second}   selection: {selections}")
    )
    if len(set(comparison.selections)) > 1:
        console.print(Text("The two suites read different epochs: give --selection.", style="yellow"))
    if comparison.rows:
        console.print(Padding(grid, (0, 0, 1, 2), expand=False))
    for name, keys in (("A", comparison.only_first), ("B", comparison.only_second)):
        tables: dict[str, list[str]] = {}
        for task, model, regularizer in keys:
            tables.setdefault(f"{task} ({model})", []).append(regularizer)
        for table, regularizers in tables.items():
            console.print(f"  only in {name}: {table}: {', '.join(regularizers)}", soft_wrap=True)
    settings: dict[tuple[str, str, str], list[str]] = {}
    for row in comparison.rows:
        for setting, ours, theirs in row.settings:
            settings.setdefault((setting, str(ours), str(theirs)), []).append(f"{row.task} {row.regularizer}")
    for (setting, ours, theirs), rows in settings.items():
        of = f" ({len(rows)} of {len(comparison.rows)} rows)"
        console.print(f"  setting {setting}: {ours} | {theirs}{of}", soft_wrap=True)
    for name, ours, theirs in comparison.versions:
        console.print(f"  version {name}: {ours} | {theirs}", soft_wrap=True)
    changed = [(row, seed) for row in comparison.rows for seed in row.changed]
    same = sum(len(row.same) for row in comparison.rows)
    console.print(
        f"{len(comparison.rows)} rows in both. Of trials with the same identity, {same} gave the same numbers"
        + (f" and {len(changed)} did not" if changed else "")
        + ". Exact permutation tests paired by seed, Holm over all rows; * at most "
        f"{comparison.alpha:g}.",
        soft_wrap=True,
    )


def _compared(row: Compared, alpha: float) -> list[Text]:
    star = " *" if row.adjusted_p <= alpha else ""
    trials = [f"{len(row.same)} the same"] if row.same else []
    trials += [f"{len(row.changed)} changed"] if row.changed else []
    shared = row.test.n
    difference = (
        f"{row.test.difference:+.4f}{_interval(row.interval, 4)} ({shared})" if shared else wording.NOTHING
    )
    return [
        Text(row.task),
        Text(row.model),
        Text(row.regularizer),
        Text(wording.mean_and_spread(row.first)),
        Text(wording.mean_and_spread(row.second)),
        Text(difference),
        Text(wording.p_value(row.adjusted_p if shared else None) + star),
        Text(", ".join(trials) or ("other settings" if row.settings else "")),
    ]


def _interval(interval: Interval, digits: int) -> str:
    if not math.isfinite(interval.low):
        return ""
    return f" [{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"


def merge(target: Path, sources: Sequence[Path]) -> int:
    """Merge runs into one and return the exit code: 2 where two of them contradict each other."""
    merged = merge_runs(target, sources)
    console: Console = err()
    for line in merged.notes:
        console.print(line, soft_wrap=True)
    for conflict in merged.conflicts:
        console.print(f"conflict: {conflict}", style="red", soft_wrap=True)
    counts: dict[str, Any] = dict(read_results(target).counts())
    said = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    out().print(f"{target}: {merged.copied} trials of {len(sources)} runs; {said}", soft_wrap=True)
    return SOME_FAILED if merged.conflicts else DONE
