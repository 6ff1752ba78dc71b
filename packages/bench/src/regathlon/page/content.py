"""What stands on the page, in order: made from a run's results and their analysis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup

from regathlon import wording
from regathlon.analysis import EXPLAINED, Analysis, Ranking
from regathlon.leaderboard import BASELINE, Row, Table
from regathlon.ledger import ledger
from regathlon.page import charts, tables
from regathlon.page.curves import Reader, curve, training_loss, validation
from regathlon.page.details import details
from regathlon.page.looks import Look, looks
from regathlon.page.pictures import Gallery, Picture, gallery
from regathlon.page.svg import Charts
from regathlon.results import Outcome, Results
from regathlon.store import RunFolder

CLASSIC_METHODS = 24
"""Methods up to which a critical-difference diagram has its usual form."""


@dataclass(frozen=True)
class Chart:
    """A chart and what it shows."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class Strip:
    """The same picture of several trials.

    Attributes:
        name: Of the picture.
        caption: Where all have the same.
        first: One per row, of its first seed.
        others: Of the other seeds.
    """

    name: str
    caption: str
    first: tuple[Picture, ...]
    others: tuple[Picture, ...]


@dataclass(frozen=True)
class Section:
    """A task's part of the page.

    Attributes:
        title: Of its table.
        about: Data set, model, budget, seeds: in a line.
        leaderboard: Its table.
        said: What the table claims, or why it claims nothing.
        charts: Intervals, gain against cost, learning curves.
        metrics: All metrics, where there is more than one.
        strips: Pictures.
    """

    title: str
    about: str
    leaderboard: tables.Grid
    said: tuple[str, ...]
    charts: tuple[Chart, ...]
    metrics: tables.Grid | None
    strips: tuple[Strip, ...]


@dataclass(frozen=True)
class Content:
    """The page.

    Attributes:
        analysis: Of the run.
        explained: What the selection reads, in words.
        overall: The table over all tasks.
        ranking: Its critical-difference diagram, wide and narrow; empty without one.
        ranking_said: What the diagram shows, one sentence each.
        sections: One per task and model.
        missing: What has no score, and why.
        trials: All trials.
        details: Of each trial, for the script.
        keys: The signs of all series, by their number.
        names: The regularizers by number.
        gallery: Pictures.
        ledger: What papers printed beside what was measured; None where they printed nothing of the kind.
        statuses: That trials have.
        style_sheet: CSS of the charts.
    """

    analysis: Analysis
    explained: str
    overall: tables.Grid
    ranking: tuple[Markup, ...]
    ranking_said: tuple[str, ...]
    sections: tuple[Section, ...]
    missing: tables.Grid
    trials: tables.Grid
    details: Mapping[str, Any]
    keys: tuple[Markup, ...]
    names: tuple[str, ...]
    gallery: Gallery
    ledger: tables.Grid | None
    statuses: tuple[str, ...]
    style_sheet: str


def content(results: Results, analysis: Analysis) -> Content:
    """Put the page together.

    Args:
        results: Of a run.
        analysis: Of the same run.
    """
    run = RunFolder(results.folder)
    of = looks(_names(analysis), baseline=BASELINE)
    by_id = {str(outcome.cell["id"]): outcome for outcome in results.outcomes if "id" in outcome.cell}
    titles, names = _places(analysis)
    drawing = Charts()
    keys = tuple(drawing.svg(partial(charts.key, look), name) for name, look in of.items())
    pictures = gallery(results.outcomes, run)
    entries = ledger(results, analysis.selection)
    sections = tuple(
        Section(
            title=table.title,
            about=_about(table),
            leaderboard=tables.of_task(table, of),
            said=tuple(wording.claims(table)),
            charts=tuple(_charts(table, of, by_id, drawing)),
            metrics=tables.all_metrics(table, of),
            strips=tuple(_strips(table, pictures)),
        )
        for table in analysis.tables
    )
    return Content(
        analysis=analysis,
        explained=EXPLAINED[analysis.selection],
        overall=tables.overall(analysis, of),
        ranking=tuple(_diagrams(analysis.ranking, of, drawing)) if analysis.ranking else (),
        ranking_said=tuple(_ranking_said(analysis.ranking)) if analysis.ranking else (),
        sections=sections,
        missing=tables.missing(analysis.tables),
        trials=tables.trials(results.outcomes, titles, names, analysis.selection),
        details=details(results.outcomes, run),
        keys=keys,
        names=tuple(of),
        gallery=pictures,
        ledger=tables.printed(entries) if entries else None,
        statuses=tuple(sorted({o.status for o in results.outcomes if "id" in o.cell})),
        style_sheet=drawing.style_sheet,
    )


def _names(analysis: Analysis) -> list[str]:
    """Return the rows of all tables: the baseline, then the ranked ones, then the others as they come."""
    ranked = list(analysis.ranking.diagram.ranks.average) if analysis.ranking else []
    every = [row.name for table in analysis.tables for row in table.rows]
    first = [BASELINE] if BASELINE in every else []
    return list(dict.fromkeys([*first, *ranked, *every]))


def _places(analysis: Analysis) -> tuple[dict[str, str], dict[str, str]]:
    """Return the table's title and the row's name of every trial, by id."""
    found = [
        (identity, table, row) for table in analysis.tables for row in table.rows for identity in row.trials
    ]
    return (
        {identity: table.title for identity, table, _ in found},
        {identity: row.name for identity, _, row in found},
    )


def _about(table: Table) -> str:
    budgets = dict.fromkeys(row.budget for row in table.rows if row.budget)
    seeds = sorted({len(row.scores) for row in table.rows if row.scored})
    parts = [
        f"data set {table.dataset}" if table.dataset else "",
        f"model {table.model}" if table.model else "",
        " or ".join(budgets),
        f"{'–'.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seeds" if seeds else "",
        f"selection {table.selection}",
    ]
    return " · ".join(part for part in parts if part)


def _charts(
    table: Table, of: Mapping[str, Look], trials: Mapping[str, Outcome], drawing: Charts
) -> Iterator[Chart]:
    scored = [row for row in table.rows if row.scored]
    if not scored:
        return
    bars = [
        charts.Bar(of[row.name], row.name, row.summary.mean, row.interval.low, row.interval.high, row.bold)
        for row in scored
    ]
    label = wording.metric(table)
    level = f"{1 - table.alpha:.0%}"
    yield Chart(
        drawing.svg(partial(charts.intervals, bars, label), f"Means and intervals on {table.title}"),
        f"Test {table.metric}: mean and its {level} interval{_cut([bar.value for bar in bars], bars)}",
    )
    yield from _trade(table, scored, of, drawing)
    for read, name, caption in (
        (validation(table.metric), f"validation {label}", f"Validation {table.metric}"),
        (training_loss, "training loss", "Training loss"),
    ):
        found = _curves(table, trials, read, of)
        if found:
            yield Chart(
                drawing.svg(partial(charts.curves, found, name), f"{caption} of {table.title} by epoch"),
                f"{caption} by epoch: mean, and range of the seeds",
            )


def _curves(
    table: Table, trials: Mapping[str, Outcome], read: Reader, of: Mapping[str, Look]
) -> list[charts.Curve]:
    found = (curve(row, trials, read, of[row.name]) for row in table.rows)
    return [line for line in found if line is not None]


def _trade(table: Table, rows: Sequence[Row], of: Mapping[str, Look], drawing: Charts) -> Iterator[Chart]:
    """Draw gain against cost: in FLOPs where every row's are known, else in time."""
    compared = [row for row in rows if row.gain is not None and math.isfinite(row.gain.gain)]
    for what, ratios in (
        ("training FLOPs", [row.costs.flops_ratio for row in compared]),
        ("training time", [row.costs.time_ratio for row in compared]),
    ):
        points = [
            charts.Point(of[row.name], ratio, row.gain.gain, row.gain.interval.low, row.gain.interval.high)
            for row, ratio in zip(compared, ratios, strict=True)
            if row.gain is not None and ratio
        ]
        if points and len(points) == len(compared):
            cut = _cut([0.0, *(point.gain for point in points)], points)
            label = f"{what}, over the baseline's"
            yield Chart(
                drawing.svg(
                    partial(charts.trade, points, label, f"gain in {table.metric}"),
                    f"Gain against {what} on {table.title}",
                ),
                f"Gain over {table.baseline} against {what}: up is better, left is cheaper{cut}",
            )
            return


def _cut(values: Sequence[float], shown: Sequence[charts.Bar] | Sequence[charts.Point]) -> str:
    """Say that intervals are cut, where some are."""
    intervals = [(one.low, one.high) for one in shown]
    cut = charts.beyond(intervals, charts.reach(values, intervals))
    return "; an arrow means that the interval goes on" if cut else ""


def _diagrams(ranking: Ranking, of: Mapping[str, Look], drawing: Charts) -> Iterator[Markup]:
    label = "Critical-difference diagram of average ranks"
    if len(ranking.diagram.ranks.average) <= CLASSIC_METHODS:
        yield drawing.svg(partial(charts.critical_difference, ranking.diagram, of), label)
    yield drawing.svg(partial(charts.ranks, ranking.diagram, of), label)


def _ranking_said(ranking: Ranking) -> Iterator[str]:
    test, diagram = ranking.diagram.friedman, ranking.diagram
    differ = test.permutation_p <= diagram.alpha
    yield (
        f"Friedman's test of {test.k} methods over {test.n} tables: p {wording.p_value(test.permutation_p)}. "
        + (
            f"Average ranks {diagram.difference:.2f} apart differ (Nemenyi); a bar joins methods that do not."
            if differ
            else "No method is shown to differ from another, so one bar joins all."
        )
    )
    if ranking.tables_left_out:
        yield (
            "Not ranked over, because a ranked method is missing there or has other seeds: "
            f"{', '.join(ranking.tables_left_out)}."
        )
    if ranking.methods_left_out:
        yield (
            "Not ranked, because they have no comparable score on all of these tables: "
            f"{', '.join(ranking.methods_left_out)}."
        )


def _strips(table: Table, pictures: Gallery) -> Iterator[Strip]:
    """Gather a task's pictures by name, in the order of its rows."""
    order = {identity: place for place, row in enumerate(table.rows) for identity in row.trials}
    found: dict[str, list[Picture]] = {}
    for picture in pictures.pictures:
        if str(picture.outcome.cell.get("id")) in order:
            found.setdefault(picture.name, []).append(picture)
    for name, here in found.items():
        here.sort(
            key=lambda picture: order[str(picture.outcome.cell["id"])]
        )  # by row, then by seed as they came
        captions = {picture.caption for picture in here}
        by_row = {order[str(picture.outcome.cell["id"])]: picture for picture in reversed(here)}
        first = tuple(by_row[place] for place in sorted(by_row))
        yield Strip(
            name,
            captions.pop() if len(captions) == 1 else "",
            first,
            tuple(picture for picture in here if not any(picture is one for one in first)),
        )
