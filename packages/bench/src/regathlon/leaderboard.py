"""Leaderboards: one table per task and model, and what each may claim."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regathlon.results import ENDED, Outcome, Results, is_number
from regathlon_core.statistics import (
    EffectSize,
    Gain,
    Interval,
    Pair,
    Seed,
    Summary,
    TableComparison,
    TestMethod,
    compare_methods,
    confidence_interval,
    effect_size,
    seeds_needed,
    summarize,
)

BASELINE = "none"


@dataclass(frozen=True)
class Missing:
    """Trials of a row that have no score, all for one reason.

    Attributes:
        status: ``skipped``, ``failed``, ``oom``, ``planned``, ``running``, or ``done`` without a score.
        reason: In words; empty where there is nothing to say.
        seeds: Whose.
        all: Whether these are all trials of the row.
    """

    status: str
    reason: str
    seeds: tuple[int, ...]
    all: bool


@dataclass(frozen=True)
class Costs:
    """What a row's trainings took, averaged over the trials that are done; None where that is unknown.

    Attributes:
        train_seconds: Wall time of the training steps.
        step_seconds: Wall time of one.
        peak_memory_mb: Peak memory in MiB.
        train_flops: Floating-point operations.
        time_ratio: Training time over the baseline's, on the seeds that both have.
        flops_ratio: Floating-point operations, likewise.
        memory_ratio: Peak memory, likewise.
    """

    train_seconds: float | None = None
    step_seconds: float | None = None
    peak_memory_mb: float | None = None
    train_flops: float | None = None
    time_ratio: float | None = None
    flops_ratio: float | None = None
    memory_ratio: float | None = None


@dataclass(frozen=True)
class Row:
    """A regularizer on one task and model.

    Attributes:
        name: The regularizer as the suite writes it, and what else sets the row apart from its table, if
            anything does (``none [budget.epochs=20]``).
        regularizer: The regularizer alone.
        budget: What each trial was given, in words ("20 epochs"); empty where nothing could run.
        scores: The leading metric by seed, of the trials that have one.
        summary: Their n, mean and sample standard deviation; NaN where there are too few.
        interval: For the mean, Student's, at 1 - alpha.
        bold: The best mean of the table, or not distinguishable from it; never where the table admits no
            claim.
        p_best: Adjusted p-value of the difference from the best mean; None for the best itself.
        gain: Over the baseline, with interval and p-values; None for the baseline, or without one.
        effect: Effect sizes of that gain.
        more_seeds: How many more seeds would show a gain of this size with power 0.8; 0 where those there are
            should do, None where it cannot be known.
        costs: What it took.
        metrics: All metrics of the test split at the selected epoch, and those of evaluations (of the last model,
            as ``evaluation/metric``), over the seeds that have them.
        missing: Trials without a score, by reason.
        trials: Ids of its trials.
    """

    name: str
    regularizer: str
    budget: str
    scores: Mapping[Seed, float]
    summary: Summary
    interval: Interval
    bold: bool
    p_best: float | None
    gain: Gain | None
    effect: EffectSize | None
    more_seeds: int | None
    costs: Costs
    metrics: Mapping[str, Summary]
    missing: tuple[Missing, ...]
    trials: tuple[str, ...]

    @property
    def scored(self) -> bool:
        """Whether there is a score at all."""
        return bool(self.scores)


@dataclass(frozen=True)
class Table:
    """The leaderboard of a task and model.

    Attributes:
        task: As the suite writes it.
        dataset: Name of its data set.
        model: As the suite writes it.
        metric: The leading metric, on the test split.
        lower_is_better: Its direction.
        selection: Which epoch the scores are read from.
        rows: Best mean first, those without a score last.
        pairs: All pairs of rows, tested and corrected together.
        refusals: Why nothing is bold, one sentence each; empty where something may be.
        baseline: Name of the row that gains are against.
        alpha: Probability of any false claim in the table.
        test: The paired test.
    """

    task: str
    dataset: str | None
    model: str | None
    metric: str
    lower_is_better: bool
    selection: str
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    refusals: tuple[str, ...]
    baseline: str | None
    alpha: float
    test: TestMethod

    @property
    def title(self) -> str:
        """What it is of."""
        return f"{self.task} ({self.model})" if self.model else self.task


def leaderboard(
    results: Results,
    selection: str | None = None,
    *,
    test: TestMethod = "permutation",
    alpha: float = 0.05,
    difference: float | None = None,
) -> tuple[Table, ...]:
    """Aggregate results: one table per task and model.

    Args:
        results: Of a run.
        selection: Which epoch to read; None for the suite's.
        test: The paired test.
        alpha: Probability of any false claim in a table.
        difference: The gain that ``more_seeds`` is for, in the metric's unit; None for the measured one.
    """
    groups: dict[tuple[str, str | None], list[Outcome]] = {}
    for outcome in results.outcomes:
        groups.setdefault((outcome.cell["task"], outcome.cell["model"]), []).append(outcome)
    chosen = selection or results.selection
    return tuple(_table(outcomes, chosen, test, alpha, difference) for outcomes in groups.values())


@dataclass(frozen=True)
class _Group:
    """The trials of a row: ``apart`` is what of their description, but regularizer and seed, is their own."""

    outcomes: Sequence[Outcome]
    apart: Mapping[str, Any]

    @property
    def regularizer(self) -> str:
        return str(self.outcomes[0].cell["regularizer"])

    @property
    def budget(self) -> str:
        return next((text for outcome in self.outcomes if (text := budget_of(outcome.cell))), "")

    @property
    def tuning(self) -> str:
        own = {key: value for key, value in self.apart.items() if not key.startswith("recipe.budget.")}
        return _settings(own) or "the suite's recipe"


def _table(
    outcomes: Sequence[Outcome], selection: str, test: TestMethod, alpha: float, difference: float | None
) -> Table:
    groups = _group(outcomes)
    lower = any(outcome.cell.get("lower_is_better") for outcome in outcomes)
    scores = {name: scores_by_seed(group.outcomes, selection) for name, group in groups.items()}
    # A method that cannot run here, or whose trials all failed, is not there to be compared with.
    compared = [
        name
        for name, group in groups.items()
        if scores[name] or any(outcome.status not in ENDED for outcome in group.outcomes)
    ]
    baselines = [name for name in compared if groups[name].regularizer == BASELINE]
    baseline = baselines[0] if len(baselines) == 1 else None
    comparison = compare_methods(
        {name: scores[name] for name in compared},
        lower_is_better=lower,
        alpha=alpha,
        method=test,
        baseline=baseline,
        budgets={name: groups[name].budget for name in compared},
        tunings={name: groups[name].tuning for name in compared},
    ) if any(scores.values()) else None  # fmt: skip
    order = [*(comparison.summaries if comparison else ()), *groups]
    rows = tuple(
        _row(name, groups, scores, comparison, selection, alpha, lower, difference)
        for name in dict.fromkeys(order)
    )
    return Table(
        task=outcomes[0].cell["task"],
        dataset=outcomes[0].cell["dataset"],
        model=outcomes[0].cell["model"],
        metric=next((outcome.metric for outcome in outcomes if outcome.metric), ""),
        lower_is_better=lower,
        selection=selection,
        rows=(*(row for row in rows if row.scored), *(row for row in rows if not row.scored)),
        pairs=comparison.pairs if comparison else (),
        refusals=comparison.refusals if comparison else ("No trial has a score.",),
        baseline=baseline,
        alpha=alpha,
        test=test,
    )


def _group(outcomes: Sequence[Outcome]) -> dict[str, _Group]:
    """Sort trials into rows: by regularizer, and by all else of their description but the seed.

    Within a suite a table's trials differ in nothing else; in merged runs they may.
    """
    variants: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        rest = json.dumps(_protocol(outcome.cell), sort_keys=True)
        variants.setdefault((outcome.cell["regularizer"], rest), []).append(outcome)
    # Skipped cells have no description: they stand with the regularizer's other trials, if there are any.
    for regularizer, rest in list(variants):
        others = [key for key in variants if key[0] == regularizer and key[1] != "{}"]
        if rest == "{}" and others:
            variants[others[0]] += variants.pop((regularizer, rest))
    described = [json.loads(rest) for _, rest in variants if rest != "{}"]
    keys = dict.fromkeys(key for protocol in described for key in protocol)
    varying = [key for key in keys if len({json.dumps(protocol.get(key)) for protocol in described}) > 1]
    groups = {}
    for (regularizer, rest), found in variants.items():
        protocol = json.loads(rest)
        apart = {key: protocol.get(key) for key in varying if protocol}
        shown = {key: value for key, value in apart.items() if value is not None}
        name = f"{regularizer} [{_settings(shown)}]" if shown else regularizer
        groups[name] = _Group(found, apart)
    return groups


def _protocol(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's description, flat, without regularizer and seed; empty where there is none."""
    return {
        key: value
        for key, value in flat(cell.get("description") or {}).items()
        if key != "seed" and not key.startswith("regularizer")
    }


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.removeprefix('recipe.')}={value}" for key, value in values.items())


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested plain data by dotted keys.

    Example:
        >>> flat({"recipe": {"lr": 0.1, "budget": {"epochs": 3}}})
        {'recipe.lr': 0.1, 'recipe.budget.epochs': 3}
    """
    found: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            found |= flat(item, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = item
    return found


def budget_of(cell: Mapping[str, Any]) -> str:
    """Return what a trial was given, in words; empty for a cell without a trial.

    Example:
        >>> budget_of({"description": {"recipe": {"budget": {"epochs": 20, "steps": None}}}})
        '20 epochs'
    """
    budget = flat(cell.get("description") or {}, "")
    given = {
        key.removeprefix("recipe.budget."): value
        for key, value in budget.items()
        if key.startswith("recipe.budget.") and value is not None
    }
    return ", ".join(f"{value:g} {'FLOPs' if name == 'flops' else name}" for name, value in given.items())


def scores_by_seed(outcomes: Sequence[Outcome], selection: str) -> dict[Seed, float]:
    """Return the leading metric by seed, of the trials that have one."""
    found = {outcome.cell["seed"]: outcome.score(selection) for outcome in outcomes}
    return {
        seed: score for seed, score in sorted(found.items(), key=lambda item: item[0]) if score is not None
    }


def _row(
    name: str,
    groups: Mapping[str, _Group],
    scores: Mapping[str, Mapping[Seed, float]],
    comparison: TableComparison | None,
    selection: str,
    alpha: float,
    lower: bool,
    difference: float | None,
) -> Row:
    group, own = groups[name], scores[name]
    baseline = comparison.baseline if comparison else None
    of_baseline = scores[baseline] if baseline else {}
    gain = next((gain for gain in comparison.gains if gain.method == name), None) if comparison else None
    best = next(iter(comparison.summaries)) if comparison else None
    to_best = (
        [pair for pair in comparison.pairs if {pair.first, pair.second} == {name, best}] if comparison else []
    )
    return Row(
        name=name,
        regularizer=group.regularizer,
        budget=group.budget,
        scores=own,
        summary=summarize(own.values()),
        interval=confidence_interval(own.values(), 1 - alpha),
        bold=comparison is not None and bool(own) and name in comparison.bold,
        p_best=to_best[0].adjusted_p if to_best else None,
        gain=gain if gain and gain.n else None,
        effect=effect_size(own, of_baseline, lower_is_better=lower) if gain and gain.n else None,
        more_seeds=_more_seeds(own, of_baseline, difference, comparison) if gain and comparison else None,
        costs=_costs(group.outcomes, groups[baseline].outcomes if baseline else ()),
        metrics=_metrics(group.outcomes, selection),
        missing=_missing(group.outcomes, selection),
        trials=tuple(str(outcome.cell["id"]) for outcome in group.outcomes if "id" in outcome.cell),
    )


def _more_seeds(
    own: Mapping[Seed, float],
    baseline: Mapping[Seed, float],
    difference: float | None,
    table: TableComparison,
) -> int | None:
    differences = summarize(own[seed] - baseline[seed] for seed in own if seed in baseline)
    if differences.n < 2:
        return None
    return seeds_needed(
        differences.mean if difference is None else difference,
        differences.std,
        alpha=table.alpha,
        comparisons=len(table.pairs),
        method=table.method,
    ).more(differences.n)


_COSTS = ("train_seconds", "step_seconds", "peak_memory_mb", "train_flops")


def _costs(outcomes: Sequence[Outcome], baseline: Sequence[Outcome]) -> Costs:
    own = {name: _cost_by_seed(outcomes, name) for name in _COSTS}
    means = {name: statistics.fmean(values.values()) if values else None for name, values in own.items()}

    def ratio(name: str) -> float | None:
        theirs = _cost_by_seed(baseline, name)
        shared = own[name].keys() & theirs.keys()
        below = sum(theirs[seed] for seed in shared)
        return sum(own[name][seed] for seed in shared) / below if below else None

    return Costs(
        **means,
        time_ratio=ratio("train_seconds") if _one_device([*outcomes, *baseline]) else None,
        flops_ratio=ratio("train_flops"),
        memory_ratio=ratio("peak_memory_mb") if _one_device([*outcomes, *baseline]) else None,
    )


def _cost_by_seed(outcomes: Sequence[Outcome], name: str) -> dict[Seed, float]:
    return {
        outcome.cell["seed"]: float(outcome.cost[name])
        for outcome in outcomes
        if outcome.status == "done" and is_number(outcome.cost.get(name)) and outcome.cost[name] > 0
    }


def _one_device(outcomes: Sequence[Outcome]) -> bool:
    devices = {
        (str(o.environment.get("device")), str(o.environment.get("cpu")))
        for o in outcomes
        if o.status == "done"
    }
    return len(devices) < 2


def _metrics(outcomes: Sequence[Outcome], selection: str) -> dict[str, Summary]:
    values: dict[str, list[float]] = {}
    for outcome in outcomes:
        for name, value in {**outcome.metrics(selection), **outcome.evaluated}.items():
            values.setdefault(name, []).append(value)
    return {name: summarize(values[name]) for name in sorted(values)}


def _missing(outcomes: Sequence[Outcome], selection: str) -> tuple[Missing, ...]:
    """Return why trials have no score: each reason once, with the seeds it holds for."""
    reasons: dict[tuple[str, str], list[int]] = {}
    for outcome in outcomes:
        if outcome.score(selection) is not None:
            continue
        reason = outcome.reason
        if outcome.status == "done":
            chosen = outcome.selected(selection)
            reason = chosen.get("unavailable") or f"no finite {outcome.metric} on the test split"
        reasons.setdefault((outcome.status, reason or ""), []).append(outcome.cell["seed"])
    return tuple(
        Missing(status, reason, tuple(seeds), all=len(seeds) == len(outcomes))
        for (status, reason), seeds in reasons.items()
    )
