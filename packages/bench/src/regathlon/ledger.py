"""The ledger: what a run measured beside what the papers printed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from regathlon.leaderboard import flat
from regathlon.papers import Paper, PaperMetric, PaperNumber, papers
from regathlon.results import Outcome, Results
from regathlon_core.notation import Call, parse, parse_one
from regathlon_core.statistics import Interval, Summary, difference_interval, summarize

Verdict = Literal["reproduced", "within the interval", "off", "not comparable"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "within the interval", "off", "not comparable")
"""From best to worst."""

_LEVEL, _EQUIVALENCE_LEVEL = 0.95, 0.90


@dataclass(frozen=True)
class Entry:
    """A printed number and the one measured for it.

    Attributes:
        paper: Short name of the paper.
        printed: What it printed.
        task: The measured task (or, for an average, what its tasks have in common).
        model: The measured model.
        regularizer: The measured regularizer.
        measured: Over seeds, in the paper's unit.
        difference: Measured minus printed.
        interval: For the difference, 95 %; NaN for fewer than two seeds.
        margin: Differences below this do not count, in the paper's unit.
        differs: What differs from the paper's protocol or is not printed, one phrase each.
        verdict: One of ``VERDICTS``.
    """

    paper: str
    printed: PaperNumber
    task: str
    model: str
    regularizer: str
    measured: Summary
    difference: float
    interval: Interval
    margin: float
    differs: tuple[str, ...]
    verdict: Verdict


def ledger(
    results: Results, selection: str | None = None, known: Sequence[Paper] | None = None
) -> tuple[Entry, ...]:
    """Hold a run against the papers.

    A printed number is met by trials of the same data set (or what may stand for it), method and metric. Where some of them
    have the printed model, others are left out, and so are those whose method is further from the printed one.

    Args:
        results: Of a run.
        selection: Which epoch to read; None for the suite's.
        known: The papers; None for those that are installed.

    Returns:
        By paper in the order printed; empty where the run has nothing that a paper printed.
    """
    chosen = selection or results.selection
    setups = _setups(results)
    entries = []
    for paper in papers() if known is None else known:
        for printed in paper.numbers:
            metric = paper.metric(printed)
            names = paper.datasets.get(printed.dataset, ())
            if metric is None or printed.regularizer is None:
                continue
            wanted = parse(printed.regularizer, kind="regularizer")
            model = paper.model(printed)
            pattern = parse_one(model, kind="model") if model else None
            met = [s for s in setups if s.dataset in names and s.has(wanted) and s.of(metric.task or {})]
            # A model that the paper has elsewhere in its tables of this data set is not held against another's row.
            same = [setup for setup in met if pattern and setup.model_differs(pattern) is None]
            other = [setup for setup in met if not _printed(setup, paper, printed.dataset)]
            for group in _averaged(_closest(same or other, wanted), metric):
                scores = _scores(group, metric, chosen, _count(paper, printed, metric))
                if scores:
                    apart = list(_differences(group[0], printed, metric, wanted, pattern, chosen, names))
                    entries.append(_entry(paper, printed, metric, group, scores, apart))
    return tuple(entries)


@dataclass(frozen=True)
class _Setup:
    """The trials that differ in nothing but their seed."""

    outcomes: Sequence[Outcome]

    @property
    def cell(self) -> Mapping[str, Any]:
        return self.outcomes[0].cell

    @property
    def description(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.cell["description"]
        return found

    @property
    def dataset(self) -> str:
        return str(self.description["dataset"]["name"])

    def of(self, task: Mapping[str, Any]) -> bool:
        """Tell whether the task has these settings."""
        own = self.description["task"]["settings"]
        return all(own.get(name) == value for name, value in task.items())

    def has(self, wanted: Sequence[Call]) -> bool:
        """Tell whether the method is made of the same parts."""
        return sorted(call.name for call in wanted) == sorted(
            p["name"] for p in self.description["regularizer"]
        )

    def model_differs(self, wanted: Call) -> str | None:
        """Return how the model differs from the printed one; None where it does not."""
        own = self.description["model"]
        if own["name"] != wanted.name:
            return f"model: {wanted.text} printed, {self.cell['model']} here"
        return next(iter(_other_settings("model", wanted, own["settings"])), None)


def _printed(setup: _Setup, paper: Paper, dataset: str) -> bool:
    """Tell whether a paper has numbers of a setup's model on a data set."""
    models = {paper.model(number) for number in paper.numbers if number.dataset == dataset}
    patterns = [parse_one(model, kind="model") for model in models if model]
    return any(setup.model_differs(pattern) is None for pattern in patterns)


def _closest(setups: Sequence[_Setup], wanted: Sequence[Call]) -> list[_Setup]:
    """Return the setups whose method is nearest to the printed one.

    That is where the fewest named settings differ, and of these where the fewest others were changed from their defaults: a
    printed "DropGraph" is not met by the variants of an ablation that ran beside it.
    """
    named = {(call.name, key) for call in wanted for key in call.arguments}

    def distance(setup: _Setup) -> tuple[int, int]:
        parts = {part["name"]: part["settings"] for part in setup.description["regularizer"]}
        differing = sum(len(list(_other_settings(call.name, call, parts[call.name]))) for call in wanted)
        own = parse(str(setup.cell["regularizer"]), kind="regularizer")
        changed = {(call.name, key) for call in own for key in call.arguments}
        return differing, len(changed - named)

    nearest = min((distance(setup) for setup in setups), default=(0, 0))
    return [setup for setup in setups if distance(setup) == nearest]


def _setups(results: Results) -> list[_Setup]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in results.of("done"):
        description = outcome.cell.get("description")
        if isinstance(description, dict):
            key = json.dumps({k: v for k, v in description.items() if k != "seed"}, sort_keys=True)
            groups.setdefault(key, []).append(outcome)
    return [_Setup(outcomes) for outcomes in groups.values()]


def _averaged(setups: Sequence[_Setup], metric: PaperMetric) -> Iterator[list[_Setup]]:
    """Yield what is measured together: each setup alone, or all that differ in one task setting."""
    if not metric.mean_over:
        yield from ([setup] for setup in setups)
        return
    groups: dict[str, list[_Setup]] = {}
    for setup in setups:
        rest = flat(setup.description)
        if rest.pop(f"task.settings.{metric.mean_over}", None):
            rest.pop("seed")
            groups.setdefault(json.dumps(rest, sort_keys=True), []).append(setup)
    yield from groups.values()


def _count(paper: Paper, printed: PaperNumber, metric: PaperMetric) -> int:
    """Return how many tasks a printed average is over: the row's other numbers that are each of one task."""
    if not metric.mean_over:
        return 1
    row = ("table", "dataset", "model", "method")
    others = [n for n in paper.numbers if all(getattr(n, key) == getattr(printed, key) for key in row)]
    return sum(bool((found := paper.metric(n)) and found.task) for n in others)


def _scores(group: Sequence[_Setup], metric: PaperMetric, selection: str, count: int) -> list[float]:
    """Return the metric in the paper's unit, over the seeds that every task of an average has."""
    if len(group) != count:
        return []
    by_task = [{o.cell["seed"]: _measured(o, metric, selection) for o in setup.outcomes} for setup in group]
    scores = []
    for seed in sorted(set.intersection(*(set(values) for values in by_task))):
        values = [value for found in by_task if (value := found[seed]) is not None]
        if len(values) == count:
            scores.append(metric.offset + metric.scale * math.fsum(values) / count)
    return scores


def _measured(outcome: Outcome, metric: PaperMetric, selection: str) -> float | None:
    """Return a metric of a trial; what an evaluation measured is named without the evaluation's settings."""
    if "/" not in metric.name:
        return outcome.metrics(selection, metric.split).get(metric.name)
    found = {_bare(name): value for name, value in outcome.evaluated.items()}
    return found.get(metric.name)


def _bare(finding: str) -> str:
    evaluation, _, name = finding.rpartition("/")
    return f"{evaluation.partition('(')[0]}/{name}"


def _differences(
    setup: _Setup,
    printed: PaperNumber,
    metric: PaperMetric,
    wanted: Sequence[Call],
    model: Call | None,
    selection: str,
    datasets: Sequence[str],
) -> Iterator[str]:
    """Yield what differs from the paper's protocol, one phrase each."""
    if setup.dataset != datasets[0]:
        yield f"data: {setup.dataset} for {printed.dataset}"
    if model is None:
        yield f"model: {printed.model} in the paper"
    elif (differs := setup.model_differs(model)) is not None:
        yield differs
    parts = {part["name"]: part["settings"] for part in setup.description["regularizer"]}
    for call in wanted:
        yield from _other_settings(call.name, call, parts[call.name])
    if "epochs" not in printed.protocol:
        yield "epochs: not printed"
    evaluation, measured = metric.name.partition("/")[::2]
    if measured:
        names = {
            name
            for o in setup.outcomes
            for e in o.evaluations
            if (name := e.name).startswith(f"{evaluation}(")
        }
        yield from (f"evaluation: {evaluation} printed, {name} here" for name in sorted(names))
    # Evaluations see the model at the end of its training.
    own = _protocol(setup.description, "last" if measured else selection)
    for name, value in printed.protocol.items():
        if name != "runs" and not _same(value, own.get(name)):
            here = own.get(name)
            yield f"{name}: {value} printed, {'not a setting' if here is None else here} here"


def _protocol(description: Mapping[str, Any], selection: str) -> dict[str, Any]:
    """Return what a paper may say of a training, by the names it is said in."""
    recipe = {key: value for key, value in description["recipe"].items() if key != "budget"}
    budget = description["recipe"]["budget"]
    found = {**description["model"]["settings"], **description["task"]["settings"], **recipe}
    if budget.get("epochs") is None:
        given = {name: value for name, value in budget.items() if value is not None}
        found["epochs"] = ", ".join(f"{value:g} {name}" for name, value in given.items())
    else:
        found["epochs"] = budget["epochs"]
    return {**found, "task": description["task"]["name"], "selection": selection}


def _other_settings(what: str, call: Call, settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in call.arguments.items():
        if not _same(value, settings.get(name)):
            yield f"{what}'s {name}: {_text(value)} printed, {_text(settings.get(name))} here"


def _same(printed: Any, ours: Any) -> bool:
    if isinstance(printed, list | tuple) or isinstance(ours, list | tuple):
        first, second = list(printed or ()), list(ours or ())
        return len(first) == len(second) and all(map(_same, first, second))
    try:
        return math.isclose(float(printed), float(ours), rel_tol=1e-9)
    except (TypeError, ValueError):
        return _text(printed) == _text(ours)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _entry(
    paper: Paper,
    printed: PaperNumber,
    metric: PaperMetric,
    group: Sequence[_Setup],
    scores: Sequence[float],
    differs: list[str],
) -> Entry:
    measured = summarize(scores)
    # Where the paper says its spread, its mean is as uncertain as ours.
    runs = int(printed.protocol.get("runs", 0))
    spread = printed.std is not None and runs > 1
    theirs = Summary(runs, printed.value, printed.std or 0.0) if spread else printed.value
    interval = difference_interval(measured, theirs, _LEVEL)
    equivalence = difference_interval(measured, theirs, _EQUIVALENCE_LEVEL)
    if not math.isfinite(interval.low):
        differs.append("seeds: all the same" if measured.n > 1 else "seeds: one, which has no interval")
    cell = group[0].cell
    task = str(cell["task"]) if len(group) == 1 else f"{cell['task'].partition('(')[0]}, mean of {len(group)}"
    return Entry(
        paper=paper.name,
        printed=printed,
        task=task,
        model=str(cell["model"]),
        regularizer=str(cell["regularizer"]),
        measured=measured,
        difference=measured.mean - printed.value,
        interval=interval,
        margin=metric.margin,
        differs=tuple(differs),
        verdict=_verdict(interval, equivalence, metric.margin, differs),
    )


def _verdict(interval: Interval, equivalence: Interval, margin: float, differs: Sequence[str]) -> Verdict:
    if differs:
        return "not comparable"
    if -margin < equivalence.low and equivalence.high < margin:
        return "reproduced"
    return "within the interval" if interval.low <= 0 <= interval.high else "off"
