"""``regathlon status``, ``report`` and ``export``: what a run directory says."""

from __future__ import annotations

import sys
from pathlib import Path

from regathlon.analysis import Analysis, analyze
from regathlon.commands.output import out, selected, write_json, write_table
from regathlon.export import FORMATS
from regathlon.results import Results, read_results
from regathlon_core.errors import unknown
from regathlon_core.statistics import TestMethod


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


def read(
    folder: Path, selection: str | None, *, test: TestMethod, alpha: float, difference: float | None
) -> tuple[Results, Analysis]:
    """Return a run's results and what they show."""
    results = read_results(folder)
    chosen = selected(selection)
    return results, analyze(results, chosen, test=test, alpha=alpha, difference=difference)


def show_report(results: Results, analysis: Analysis) -> None:
    """Print a run's leaderboard."""
    from regathlon.report import print_report

    print_report(analysis, out())


def write_report(results: Results, analysis: Analysis, file: Path | None) -> None:
    """Write a run's page, and its path to standard output."""
    from regathlon.page import write_page

    file = file or results.folder
    if file.is_dir():
        file /= "report.html"
    write_page(results, analysis, file)
    out().print(str(file), soft_wrap=True)


def check_format(name: str) -> None:
    """Raise where there is no such format."""
    if name not in FORMATS:
        raise unknown("format", name, FORMATS, listing="regathlon export --help", where="--format")


def export_results(results: Results, analysis: Analysis, format_: str) -> None:
    """Write a run's results to standard output."""
    sys.stdout.write(FORMATS[format_](results, analysis))
    sys.stdout.flush()
