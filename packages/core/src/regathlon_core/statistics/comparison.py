"""All methods of one table against each other, and what may be claimed."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np

from regathlon_core.errors import UserError, unknown
from regathlon_core.statistics.paired import (
    PairedTest,
    TestMethod,
    least_seeds,
    pair_by_seed,
    paired_test,
    smallest_p,
)
from regathlon_core.statistics.summary import (
    Interval,
    Seed,
    Summary,
    confidence_interval,
    fraction,
    noise,
    summarize,
)

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Pair:
    """Two methods of a table.

    Attributes:
        first: Name of the better one, by the order of the table.
        second: Name of the other.
        test: First minus second on the seeds that both have.
        adjusted_p: Holm's, over all pairs of the table.
        distinguishable: The table admits claims and these two differ.
    """

    first: str
    second: str
    test: PairedTest
    adjusted_p: float
    distinguishable: bool


@dataclass(frozen=True)
class Gain:
    """A method against the baseline.

    Attributes:
        method: Its name.
        n: Seeds that it shares with the baseline.
        gain: How much better its mean is on those seeds, in the scores' unit: positive is better, whichever
            way the metric points. NaN for no shared seed.
        interval: Student's, Bonferroni-corrected over all gains of the table: at confidence 1 - alpha *all*
            of them hold at once, so a reader who takes "does not contain 0" for a claim is not misled either.
            Each has level 1 - alpha / (number of gains).
        p_value: Two-sided.
        adjusted_p: Holm's, over all pairs of the table.
        claimed: The table admits claims and the difference from the baseline is one.
    """

    method: str
    n: int
    gain: float
    interval: Interval
    p_value: float
    adjusted_p: float
    claimed: bool


@dataclass(frozen=True)
class TableComparison:
    """What one table says.

    Attributes:
        summaries: n, mean and spread by method, the best mean first, methods without a score last.
        pairs: All pairs of methods.
        gains: All methods but the baseline against it, in the table's order; empty without a baseline.
        bold: The best mean and all methods not distinguishable from it; empty where the table admits no
            claim.
        refusals: Why the table admits no claim, one sentence each; empty where it does.
        alpha: Family-wise level.
        method: The paired test.
        baseline: Its name, if there is one.
    """

    summaries: Mapping[str, Summary]
    pairs: tuple[Pair, ...]
    gains: tuple[Gain, ...]
    bold: tuple[str, ...]
    refusals: tuple[str, ...]
    alpha: float
    method: TestMethod
    baseline: str | None


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """Return p-values adjusted for being several.

    The step-down procedure of Holm 1979, "A simple sequentially rejective multiple test procedure". Rejecting
    where the adjusted p is at most alpha keeps the probability of any false rejection at alpha, however the
    tests depend on each other.

    Args:
        p_values: By name; any number.

    Returns:
        Adjusted p-values, in [0, 1], in the order given.

    Raises:
        UserError: A p-value is outside [0, 1] or NaN.

    Example:
        >>> holm({"dropblock": 0.01, "cutmix": 0.04, "mixup": 0.03})
        {'dropblock': 0.03, 'cutmix': 0.06, 'mixup': 0.06}
    """
    adjusted: dict[Name, float] = {}
    largest = 0.0
    for done, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        if not 0 <= p <= 1:
            raise UserError(f"The p-value of {name} is {p}; it must lie in [0, 1].")
        largest = max(largest, min(1.0, (len(p_values) - done) * p))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def compare_methods(
    scores: Mapping[str, Mapping[Seed, float]],
    *,
    lower_is_better: bool = False,
    alpha: float = 0.05,
    method: TestMethod = "permutation",
    baseline: str | None = None,
    budgets: Mapping[str, Hashable] | None = None,
    tunings: Mapping[str, Hashable] | None = None,
    generator: np.random.Generator | None = None,
) -> TableComparison:
    """Compare all methods of one table: which are as good as the best, which gain on the baseline.

    Every pair is tested on the seeds that both have, and the p-values of all pairs are corrected together by
    Holm, because which method is the best was read from the same scores. Without any true difference, the
    probability that the table claims one is at most alpha (``docs/statistics.md`` has the simulations).

    The table refuses claims, and says why, where methods differ in seeds, budget or tuning, and where the
    test has too few seeds to show anything. The tests on shared seeds are then still there to be read, but
    nothing is bold.

    Args:
        scores: Score by method and seed, all in one unit. A method may have none (all its trials failed).
        lower_is_better: The scores are errors or losses.
        alpha: Probability of any false claim in the table.
        method: The paired test.
        baseline: Method that the gains are against.
        budgets: What each method was given, as it should read in a sentence (``"20 epochs"``).
        tunings: How each method was tuned, likewise (``"defaults"``, ``"16 settings tried"``).
        generator: Draws sign flips beyond 32 seeds. Default: one with seed 0.

    Raises:
        UserError: A score is NaN or infinite, or the baseline or a key of budgets or tunings is no method of
            the table.

    Example:
        >>> seeds = range(6)
        >>> table = compare_methods(
        ...     {
        ...         "none": {seed: 90.0 + seed for seed in seeds},
        ...         "cutmix": {seed: 92.0 + 1.1 * seed for seed in seeds},
        ...     },
        ...     baseline="none",
        ... )
        >>> table.bold, table.gains[0].gain, table.gains[0].adjusted_p
        (('cutmix',), 2.25, 0.03125)
    """
    fraction("alpha", alpha)
    if not scores:
        raise UserError("The table has no methods. Give the scores of at least one.")
    for names in ({baseline} - {None}, budgets or (), tunings or ()):
        for name in names:
            if name not in scores:
                raise unknown("method in the table", str(name), scores)
    summaries = _best_first(scores, lower_is_better)
    sign = -1.0 if lower_is_better else 1.0

    tests = {
        (first, second): paired_test(scores[first], scores[second], method, generator=generator)
        for first, second in combinations(summaries, 2)
    }
    adjusted = holm({names: test.p_value for names, test in tests.items()})
    refusals = _refusals(scores, budgets, tunings, method, alpha, comparisons=len(tests))
    pairs = tuple(
        Pair(
            *names,
            test,
            adjusted[names],
            # The statistic must point the way of the means: on skewed scores, ranks and means can disagree.
            distinguishable=not refusals and adjusted[names] <= alpha and test.statistic * sign > 0,
        )
        for names, test in tests.items()
    )
    best = next(iter(summaries))
    apart = {pair.second for pair in pairs if pair.first == best and pair.distinguishable}
    return TableComparison(
        summaries=summaries,
        pairs=pairs,
        gains=() if baseline is None else _gains(scores, baseline, pairs, sign, alpha),
        bold=() if refusals else tuple(name for name in summaries if name not in apart),
        refusals=refusals,
        alpha=alpha,
        method=method,
        baseline=baseline,
    )


def _best_first(scores: Mapping[str, Mapping[Seed, float]], lower_is_better: bool) -> dict[str, Summary]:
    summaries = {}
    for name, by_seed in scores.items():
        try:
            summaries[name] = summarize(by_seed.values())
        except UserError as error:
            raise error.at(name) from None

    def key(name: str) -> tuple[bool, float]:
        mean = summaries[name].mean
        return math.isnan(mean), mean if lower_is_better else -mean

    return {name: summaries[name] for name in sorted(summaries, key=key)}


def _gains(
    scores: Mapping[str, Mapping[Seed, float]],
    baseline: str,
    pairs: tuple[Pair, ...],
    sign: float,
    alpha: float,
) -> tuple[Gain, ...]:
    gains = []
    for pair in pairs:
        if baseline not in (pair.first, pair.second):
            continue
        name = pair.second if pair.first == baseline else pair.first
        ours, theirs = pair_by_seed(scores[name], scores[baseline])
        differences = sign * (ours - theirs)
        if differences.size and np.ptp(differences) <= noise(ours, theirs):  # all the same, but for rounding
            differences[:] = differences.mean()
        gains.append(
            Gain(
                method=name,
                n=pair.test.n,
                gain=summarize(differences).mean,
                interval=confidence_interval(differences, 1 - alpha / (len(scores) - 1)),
                p_value=pair.test.p_value,
                adjusted_p=pair.adjusted_p,
                claimed=pair.distinguishable,
            )
        )
    return tuple(gains)


def _refusals(
    scores: Mapping[str, Mapping[Seed, float]],
    budgets: Mapping[str, Hashable] | None,
    tunings: Mapping[str, Hashable] | None,
    method: TestMethod,
    alpha: float,
    comparisons: int,
) -> tuple[str, ...]:
    if len(scores) < 2:
        return ("There is only one method, so there is nothing to compare.",)
    reasons = []
    counts = {name: _seeds(len(by_seed)) for name, by_seed in scores.items()}
    fewest = min(len(by_seed) for by_seed in scores.values())
    if unequal := _unequal(counts):
        reasons.append(f"The numbers of seeds differ: {unequal}.")
    elif unequal := _unequal({name: _listed(by_seed) for name, by_seed in scores.items()}):
        reasons.append(f"The seeds differ: {unequal}.")
    for what, values in (("budgets", budgets), ("tunings", tunings)):
        if values is not None and (
            unequal := _unequal({name: values.get(name, "not stated") for name in scores})
        ):
            reasons.append(f"The {what} differ: {unequal}.")
    smallest = smallest_p(fewest, method)
    if comparisons * smallest > alpha:
        reasons.append(
            f"With {_seeds(fewest)} no p-value of the {method} test can be below {smallest:.2g}, and "
            f"{comparisons} comparison{'s' if comparisons > 1 else ''} at level {alpha:g} "
            f"need{'' if comparisons > 1 else 's'} {alpha / comparisons:.2g}: "
            f"{least_seeds(comparisons, alpha, method)} seeds are the least that could show a difference."
        )
    return tuple(reasons)


def _unequal(values: Mapping[str, Hashable]) -> str | None:
    """Say who has what, if not all have the same."""
    owners: dict[Hashable, list[str]] = {}
    for name, value in values.items():
        owners.setdefault(value, []).append(name)
    if len(owners) < 2:
        return None
    return "; ".join(f"{value} ({', '.join(names)})" for value, names in owners.items())


def _seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"


def _listed(seeds: Mapping[Seed, float]) -> str:
    return ", ".join(sorted(map(str, seeds)))
