"""Standard output for results, standard error for everything else."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from regathlon.files import finite
from regathlon.results import SELECTIONS
from regathlon_core.errors import unknown


def out() -> Console:
    """Return a console for results; wide where it is no terminal, so that nothing is cut in files."""
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)


def err() -> Console:
    """Return a console for progress and messages."""
    return Console(stderr=True, highlight=False, markup=False)


def selected(name: str | None) -> str | None:
    """Return a selection given on the command line.

    Raises:
        UserError: There is no such selection.
    """
    if name is not None and name not in SELECTIONS:
        raise unknown("selection", name, SELECTIONS, where="--selection")
    return name


def write_json(value: Any) -> None:
    """Write JSON to standard output."""
    sys.stdout.write(json.dumps(finite(value), indent=1) + "\n")


def write_table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Write rows as a table with the given columns."""
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for position, column in enumerate(columns):
        grid.add_column(column, no_wrap=position == 0, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(_word(row.get(column))) for column in columns))
    out().print(grid)


def _word(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
