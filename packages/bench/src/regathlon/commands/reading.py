"""``regathlon status``, ``report`` and ``export``: what a run directory says."""

from __future__ import annotations

import sys
from pathlib import Path

from regathlon.analysis import analyze
from regathlon.commands.output import out, selected, write_json, write_table
from regathlon.export import FORMATS
from regathlon.results import read_results
from regathlon_core.errors import unknown


def show_status(folder: Path, *, as_json: bool) -> None:
    """Print where a run stands."""
    results = read_results(folder)
    rows = [
        {
            "trial": outcome.cell.get("id"),
            **{key: outcome.cell.get(key) for key in ("task", "model", "regularizer", "seed")},
            "status": outcome.status,
            "share": 1.0 if outcome.status == "done" else outcome.share,
            "reason": outcome.reason,
        }
        for outcome in results.outcomes
    ]
    if as_json:
        write_json({"suite": results.suite, "counts": dict(results.counts()), "trials": rows})
        return
    notable = [
        {**row, "status": f"running {row['share']:.0%}" if row["status"] == "running" else row["status"]}
        for row in rows
        if row["status"] != "done" and not (row["status"] == "planned" and row["reason"] is None)
    ]
    if notable:
        write_table(notable, ("task", "regularizer", "seed", "status", "reason"))
    counts = ", ".join(f"{count} {status}" for status, count in sorted(results.counts().items()))
    out().print(f"{results.suite}: {counts}")


def show_report(folder: Path, selection: str | None) -> None:
    """Print a run's leaderboard."""
    from regathlon.report import print_report

    print_report(analyze(read_results(folder), selected(selection)), out())


def write_report(folder: Path, file: Path | None, selection: str | None) -> None:
    """Write a run's page, and its path to standard output."""
    from regathlon.page import write_page

    results = read_results(folder)
    file = file or folder
    if file.is_dir():
        file /= "report.html"
    write_page(results, analyze(results, selected(selection)), file)
    out().print(str(file), soft_wrap=True)


def export_results(folder: Path, format_: str, selection: str | None) -> None:
    """Write a run's results to standard output."""
    if format_ not in FORMATS:
        raise unknown("format", format_, FORMATS, listing="regathlon export --help", where="--format")
    results = read_results(folder)
    sys.stdout.write(FORMATS[format_](results, analyze(results, selected(selection))))
    sys.stdout.flush()
