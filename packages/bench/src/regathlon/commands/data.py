"""``regathlon data``: the data sets, from ``regathlon_data``."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

import regathlon_data
from regathlon import datasets
from regathlon.cli import DONE, SOME_FAILED
from regathlon.commands.output import err, out, write_json, write_table


def list_data(data: Path | None, *, as_json: bool) -> None:
    """Print the data sets and which of them are here."""
    rows = datasets.listing(data)
    if as_json:
        write_json(rows)
        return
    write_table(rows, ("dataset", "here", "size", "licence", "title"))
    err().print(f"Folder: {datasets.root(data)}", style="dim", soft_wrap=True)


def fetch_data(name: str, data: Path | None) -> None:
    """Download a data set; the licence and the progress go to standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = err()
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def show(path: str, done: int, total: int) -> None:
            if path not in bars:
                bars[path] = progress.add_task(path, total=total)
            progress.update(bars[path], completed=done)

        folder = regathlon_data.fetch(
            datasets.check(name),
            data,
            progress=show,
            notify=lambda line: console.print(line, soft_wrap=True),
        )
    console.print(f"{name} is here: {folder}", soft_wrap=True)


def verify_data(name: str | None, data: Path | None) -> int:
    """Check the files of one data set, or of all that are here; return 2 where something is wrong."""
    here = [known for known in datasets.names() if regathlon_data.is_present(known, data)]
    chosen = [datasets.check(name)] if name else here
    wrong = False
    for each in chosen:
        problems = regathlon_data.verify(each, data)
        wrong = wrong or bool(problems)
        out().print(f"{each}: {'damaged' if problems else 'whole'}")
        for problem in problems:
            out().print(f"  {problem}", soft_wrap=True)
    return SOME_FAILED if wrong else DONE


def show_path(name: str | None, data: Path | None) -> None:
    """Print the folder where data sets are looked for."""
    if name is not None:
        datasets.check(name)
    sys.stdout.write(f"{datasets.root(data)}\n")
