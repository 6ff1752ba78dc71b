"""Results as CSV, JSON, Markdown and LaTeX, and whom to cite as BibTeX."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from regathlon import wording
from regathlon.analysis import EXPLAINED, Analysis
from regathlon.citations import to_bibtex
from regathlon.files import finite
from regathlon.leaderboard import Row, Table
from regathlon.results import Outcome, Results

COLUMNS: tuple[str, ...] = (
    *("trial", "suite", "task", "dataset", "model", "regularizer", "seed", "status", "selection"),
    *("split", "metric", "value", "epochs", "train_seconds", "step_seconds", "peak_memory_mb", "train_flops"),
    *("device", "torch"),
)


def records(results: Results, selection: str) -> Iterator[dict[str, Any]]:
    """Yield one record per trial, split and metric; trials without metrics have one record without them.

    Args:
        results: Of a run.
        selection: Which epoch to read.
    """
    for outcome in results.outcomes:
        base = _base(results, outcome, selection)
        chosen = outcome.selected(selection)
        metrics: list[tuple[Any, Any, Any]] = [
            (split, metric, value)
            for split in ("val", "test")
            for metric, value in sorted(chosen.get(split, {}).items())
        ]
        # An evaluation sees the model at the end of its training, whatever the selection.
        metrics += [
            ("test", f"{evaluated.name}/{name}", value)
            for evaluated in outcome.evaluations
            for name, value in sorted(evaluated.metrics.items())
        ]
        for split, metric, value in metrics or [(None, None, None)]:
            yield {**base, "split": split, "metric": metric, "value": value}


def _base(results: Results, outcome: Outcome, selection: str) -> dict[str, Any]:
    cell, result = outcome.cell, outcome.result or {}
    environment = outcome.environment
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


def to_csv(results: Results, analysis: Analysis) -> str:
    """Return CSV with the columns ``COLUMNS``; floats are written so that all their bits survive."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record in records(results, analysis.selection):
        # csv writes floats with repr, and None as nothing
        writer.writerow(record)
    return out.getvalue()


SCHEMA = 1
"""Of the JSON export: raised whenever a key changes its meaning or goes; new keys do not raise it."""


def to_json(results: Results, analysis: Analysis) -> str:
    """Return JSON: the records of the CSV, the analysis, and the reasons of what is missing.

    ``{"schema": 1, "suite", "title", "selection", "test", "alpha", "counts", "problems", "environments", "records":
    [COLUMNS], "leaderboard": [Table], "ranking": Ranking, "missing": [...]}`` where tables and ranking have the
    fields of the classes of those names. What is not known is null.
    """
    value = {
        "schema": SCHEMA,
        **{key: value for key, value in _plain(analysis).items() if key not in ("folder", "tables")},
        "leaderboard": _plain(analysis)["tables"],
        "records": list(records(results, analysis.selection)),
        "missing": [
            {"trial": o.cell.get("id"), "status": o.status, "reason": o.reason}
            | {key: o.cell.get(key) for key in ("task", "model", "regularizer", "seed")}
            for o in results.outcomes
            if o.status != "done"
        ],
    }
    return json.dumps(finite(value), indent=1) + "\n"


def _plain(analysis: Analysis) -> dict[str, Any]:
    found = asdict(analysis)
    found["environments"] = dict(found["environments"])
    return found


def to_markdown(results: Results, analysis: Analysis) -> str:
    """Return a Markdown table per task; bold as the table admits."""
    lines = [f"# {_escape_markdown(analysis.title)}", "", _about(analysis), ""]
    lines += [f"* {_escape_markdown(problem)}" for problem in analysis.problems]
    lines += [""] if analysis.problems else []
    for table in analysis.tables:
        lines += [f"## {_escape_markdown(table.title)}", "", f"Selection: `{table.selection}`.", ""]
        lines += [f"| {' | '.join(_headings(table))} |", "|---|---:|---:|---:|---:|---:|"]
        for row in table.rows:
            name, score, *others = (_escape_markdown(cell) for cell in _cells(row))
            lines += [f"| {' | '.join((name, f'**{score}**' if row.bold else score, *others))} |"]
        said = [f"* {_escape_markdown(line)}" for line in _said(table)]
        lines += ["", *said, *([""] if said else [])]
    return "\n".join(lines).rstrip() + "\n"


def to_latex(results: Results, analysis: Analysis) -> str:
    r"""Return a LaTeX ``tabular`` (booktabs) per task; bold as the table admits, stars for p-values.

    One star for an adjusted p of at most 0.05, two for 0.01, three for 0.001, beside the gain over the baseline.
    """
    lines = [
        f"% {_one_line(analysis.title)}; selection: {analysis.selection}; needs booktabs",
        *(f"% {_one_line(problem)}" for problem in analysis.problems),
    ]
    for table in analysis.tables:
        caption = f"{table.title}; selection: {table.selection}"
        lines += [r"\begin{table}", r"\centering", rf"\caption{{{_escape_latex(caption)}}}"]
        lines += [r"\begin{tabular}{lrrrrr}", r"\toprule"]
        lines += [" & ".join(map(_escape_latex, _headings(table))) + r" \\", r"\midrule"]
        for row in table.rows:
            name, score, gain, *others = map(_escape_latex, _cells(row))
            score = rf"\textbf{{{score}}}" if row.bold else score
            lines += [" & ".join((name, score, gain + _stars(row, table), *others)) + r" \\"]
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        lines += [f"% {_one_line(line)}" for line in _said(table)]
        lines += [""]
    return "\n".join(lines).rstrip() + "\n"


def _about(analysis: Analysis) -> str:
    return (
        f"Test results of {EXPLAINED[analysis.selection]}; mean ± sample standard deviation (seeds). Gains over none are "
        "paired by seed; their intervals and p-values hold for a whole table at once."
    )


def _said(table: Table) -> list[str]:
    return [*wording.claims(table), *(who + note for who, note in wording.notes(table))]


def _headings(table: Table) -> tuple[str, ...]:
    return ("regularizer", wording.metric(table), "gain over none", "p", "time", "FLOPs")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        wording.mean_and_spread(row.summary),
        wording.gain(row.gain),
        wording.p_value(row.gain.adjusted_p if row.gain else None),
        wording.seconds(row),
        wording.flops(row),
    )


def _stars(row: Row, table: Table) -> str:
    if row.gain is None or table.refusals:
        return ""
    stars = sum(row.gain.adjusted_p <= level for level in (0.05, 0.01, 0.001))
    return rf"$^{{{'*' * stars}}}$" if stars else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _escape_markdown(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _escape_latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    special |= {"±": r"$\pm$", "×": r"$\times$", "–": "--"}
    return "".join(special.get(character, character) for character in text)


FORMATS: Mapping[str, Callable[[Results, Analysis], str]] = {
    "csv": to_csv,
    "json": to_json,
    "markdown": to_markdown,
    "latex": to_latex,
    "bibtex": lambda results, analysis: to_bibtex(results),
}
