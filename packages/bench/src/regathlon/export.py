"""Results as CSV, JSON, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from regathlon.files import finite
from regathlon.leaderboard import Row, Table, leaderboard, notes
from regathlon.results import Outcome, Results
from regathlon.summary import Summary

COLUMNS: tuple[str, ...] = (
    *("trial", "suite", "task", "dataset", "model", "regularizer", "seed", "status", "selection"),
    *("split", "metric", "value", "epochs", "train_seconds", "step_seconds", "peak_memory_mb", "train_flops"),
    *("device", "torch"),
)


def records(results: Results, selection: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield one record per trial, split and metric; trials without metrics have one record without them.

    Args:
        results: Of a run.
        selection: Which epoch to read; None for the suite's.
    """
    selection = selection or results.selection
    for outcome in results.outcomes:
        base = _base(results, outcome, selection)
        chosen = outcome.selected(selection)
        metrics: list[tuple[Any, Any, Any]] = [
            (split, metric, value)
            for split in ("val", "test")
            for metric, value in sorted(chosen.get(split, {}).items())
        ]
        for split, metric, value in metrics or [(None, None, None)]:
            yield {**base, "split": split, "metric": metric, "value": value}


def _base(results: Results, outcome: Outcome, selection: str) -> dict[str, Any]:
    cell, result = outcome.cell, outcome.result or {}
    environment = result.get("environment", {})
    base: dict[str, Any] = dict.fromkeys(COLUMNS)
    base.update({key: cell.get(key) for key in ("task", "dataset", "model", "regularizer", "seed")})
    base.update({key: outcome.cost.get(key) for key in COLUMNS if key in outcome.cost})
    base.update(
        trial=cell.get("id"),
        suite=results.suite,
        status=outcome.status,
        selection=selection,
        epochs=len(result["history"]) if "history" in result else None,
        device=environment.get("device"),
        torch=environment.get("torch"),
    )
    return base


def to_csv(results: Results, selection: str | None = None) -> str:
    """Return CSV with the columns ``COLUMNS``; floats are written so that all their bits survive."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record in records(results, selection):
        # csv writes floats with repr, and None as nothing
        writer.writerow(record)
    return out.getvalue()


def to_json(results: Results, selection: str | None = None) -> str:
    """Return JSON: the records of the CSV, the leaderboard, and the reasons of what is missing."""
    value = {
        "suite": results.suite,
        "selection": selection or results.selection,
        "records": list(records(results, selection)),
        "leaderboard": [asdict(table) for table in leaderboard(results, selection)],
        "missing": [
            {"trial": o.cell.get("id"), "status": o.status, "reason": o.reason}
            | {key: o.cell.get(key) for key in ("task", "model", "regularizer", "seed")}
            for o in results.outcomes
            if o.status != "done"
        ],
    }
    return json.dumps(finite(value), indent=1) + "\n"


def to_markdown(results: Results, selection: str | None = None) -> str:
    """Return a Markdown table per task."""
    lines = [f"# {results.title or results.suite}", "", f"Selection: `{selection or results.selection}`.", ""]
    for table in leaderboard(results, selection):
        lines += [f"## {heading(table)}", ""]
        lines += [f"| regularizer | {table.metric or 'score'} | gain over none | time | FLOPs |"]
        lines += ["|---|---:|---:|---:|---:|"]
        lines += [f"| {' | '.join(_escape_markdown(cell) for cell in cells(row))} |" for row in table.rows]
        said = [f"* {_escape_markdown(who + note)}" for who, note in notes(table)]
        lines += ["", *said, *([""] if said else [])]
    return "\n".join(lines).rstrip() + "\n"


def to_latex(results: Results, selection: str | None = None) -> str:
    r"""Return a LaTeX ``tabular`` (booktabs) per task."""
    lines = [
        f"% {results.title or results.suite}; selection: {selection or results.selection}; needs booktabs"
    ]
    for table in leaderboard(results, selection):
        lines += [r"\begin{table}", r"\centering", rf"\caption{{{_escape_latex(heading(table))}}}"]
        lines += [r"\begin{tabular}{lrrrr}", r"\toprule"]
        lines += [
            rf"regularizer & {_escape_latex(table.metric or 'score')} & gain over none & time & FLOPs \\"
        ]
        lines += [r"\midrule"]
        lines += [" & ".join(_escape_latex(cell) for cell in cells(row)) + r" \\" for row in table.rows]
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        lines += [f"% {' '.join((who + note).split())}" for who, note in notes(table)]
        lines += [""]
    return "\n".join(lines).rstrip() + "\n"


def heading(table: Table) -> str:
    """Return what a table is of."""
    return f"{table.task} ({table.model})" if table.model else table.task


def cells(row: Row) -> tuple[str, str, str, str, str]:
    """Return a row as words: regularizer, score, gain, time and FLOPs (with ratios to the baseline)."""
    return (
        row.regularizer,
        mean_and_spread(row.score),
        mean_and_spread(row.gain, signed=True),
        _with_ratio(None if row.seconds is None else f"{row.seconds:.1f} s", row.time_ratio),
        _with_ratio(None if row.flops is None else _si(row.flops), row.flops_ratio),
    )


def mean_and_spread(summary: Summary | None, *, signed: bool = False) -> str:
    """Write mean ± sample standard deviation (number of seeds).

    Example:
        >>> mean_and_spread(Summary(0.91, 0.02, 3)), mean_and_spread(Summary(0.5, None, 1), signed=True)
        ('0.9100 ± 0.0200 (3)', '+0.5000 (1)')
    """
    if summary is None:
        return "–"
    mean = f"{summary.mean:+.4f}" if signed else f"{summary.mean:.4f}"
    spread = f" ± {summary.std:.4f}" if summary.std is not None else ""
    return f"{mean}{spread} ({summary.count})"


def _with_ratio(value: str | None, ratio: float | None) -> str:
    if value is None:
        return "–"
    return value if ratio is None else f"{value} ({ratio:.2f}×)"


def _si(value: float) -> str:
    """Write a count with a prefix.

    Example:
        >>> _si(2.5e9)
        '2.50 G'
    """
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.2f} {prefix}"
    return f"{value:.0f}"


def _escape_markdown(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _escape_latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    special |= {"±": r"$\pm$", "×": r"$\times$", "–": "--"}
    return "".join(special.get(character, character) for character in text)


FORMATS: Mapping[str, Callable[[Results, str | None], str]] = {
    "csv": to_csv,
    "json": to_json,
    "markdown": to_markdown,
    "latex": to_latex,
}
