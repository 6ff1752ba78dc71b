"""Methods over many tasks: average ranks, Friedman's test and the critical-difference diagram.

The procedure of Demšar 2006, "Statistical Comparisons of Classifiers over Multiple Data Sets" (JMLR 7),
section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from regathlon_core.errors import UserError
from regathlon_core.statistics.paired import midranks
from regathlon_core.statistics.summary import Array, finite, fraction, noise

_ORDERS = 9_999


@dataclass(frozen=True)
class Ranks:
    """Average ranks of methods over tasks.

    Attributes:
        average: Rank by method averaged over tasks, from 1 (best), ties shared; the best first. Empty without
            tasks.
        tasks: The tasks used: those on which every method has a score.
        left_out: The others.
    """

    average: Mapping[str, float]
    tasks: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Friedman:
    """Friedman's test that no method differs from any other over the tasks.

    Attributes:
        k: Methods.
        n: Tasks.
        chi_square: Friedman's statistic, corrected for ties; k - 1 degrees of freedom.
        chi_square_p: Its p-value.
        f: Iman and Davenport's (1980) statistic, less conservative; k - 1 and (k - 1)(n - 1) degrees of
            freedom. Infinite where all tasks agree on every rank.
        f_p: Its p-value.
        permutation_p: The share of 9,999 random orders of the ranks within each task whose statistic is as
            large. The two above lean on many tasks (three tasks, three methods: f_p is below 0.05 for 19 % of
            tables without a difference); this one holds for any number.
    """

    k: int
    n: int
    chi_square: float
    chi_square_p: float
    f: float
    f_p: float
    permutation_p: float


@dataclass(frozen=True)
class CriticalDifference:
    """What a critical-difference diagram shows.

    Attributes:
        ranks: Where each method stands on the axis.
        friedman: The test of all methods at once.
        difference: Average ranks at least this far apart differ (Nemenyi); infinite for fewer than two tasks.
        cliques: Methods to be joined by a bar, best first: not distinguishable from each other. All of them
            in one where Friedman's test, by permutation, does not reject.
        alpha: Level of both tests.
    """

    ranks: Ranks
    friedman: Friedman
    difference: float
    cliques: tuple[tuple[str, ...], ...]
    alpha: float


def average_ranks(
    table: Mapping[str, Mapping[str, float]], *, lower_is_better: Collection[str] = ()
) -> Ranks:
    """Rank the methods on every task and average.

    Args:
        table: Score (a mean over seeds) by method and task. Units may differ between tasks.
        lower_is_better: The tasks whose metric is an error or a loss.

    Raises:
        UserError: A score is NaN or infinite, or the table has no methods.

    Example:
        >>> table = {"none": {"digits": 90.0, "shapes": 70.0}, "cutmix": {"digits": 92.0, "shapes": 70.0}}
        >>> average_ranks(table).average
        {'cutmix': 1.25, 'none': 1.75}
    """
    tasks, left_out, matrix = _rank_matrix(table, lower_is_better)
    means = dict(zip(table, matrix.mean(axis=0).tolist(), strict=True)) if tasks else {}
    return Ranks({name: means[name] for name in sorted(means, key=means.__getitem__)}, tasks, left_out)


def friedman(
    table: Mapping[str, Mapping[str, float]],
    *,
    lower_is_better: Collection[str] = (),
    generator: np.random.Generator | None = None,
) -> Friedman:
    """Test whether any method differs from any other over the tasks (Friedman 1937; Iman and Davenport 1980).

    Tasks on which a method has no score are left out. With fewer than two methods or tasks all p-values are
    1.

    Args:
        table: Score (a mean over seeds) by method and task.
        lower_is_better: The tasks whose metric is an error or a loss.
        generator: Draws the random orders. Default: one with seed 0, so that two reports agree.

    Raises:
        UserError: A score is NaN or infinite, or the table has no methods.

    Example:
        >>> table = {
        ...     "a": {"t1": 1.0, "t2": 1.0, "t3": 3.0},
        ...     "b": {"t1": 2.0, "t2": 2.0, "t3": 2.0},
        ...     "c": {"t1": 3.0, "t2": 3.0, "t3": 1.0},
        ... }
        >>> result = friedman(table)
        >>> round(result.chi_square, 3), round(result.f, 3)
        (0.667, 0.25)
    """
    from scipy.special import chdtrc, fdtrc  # type: ignore[import-untyped]

    _, _, matrix = _rank_matrix(table, lower_is_better)
    n, k = matrix.shape
    # The ranks' squared deviations from their mean: without ties, n k (k² - 1) / 12.
    spread = float(((matrix - (k + 1) / 2) ** 2).sum())
    if n < 2 or k < 2 or spread == 0:
        return Friedman(k, n, 0.0, 1.0, 0.0, 1.0, 1.0)
    between = float(_between(matrix.sum(axis=0)))
    chi_square = (k - 1) * between / spread
    rest = n * (k - 1) - chi_square
    f = (n - 1) * chi_square / rest if rest > 1e-9 else math.inf
    f_p = float(fdtrc(k - 1, (k - 1) * (n - 1), f)) if rest > 1e-9 else 0.0

    generator = generator if generator is not None else np.random.default_rng(0)
    sums = np.zeros((_ORDERS, k))
    for row in matrix:
        sums += generator.permuted(np.broadcast_to(row, sums.shape), axis=1)
    hits = int((_between(sums) > between - 1e-9).sum())
    return Friedman(
        k, n, chi_square, float(chdtrc(k - 1, chi_square)), f, f_p, permutation_p=(1 + hits) / (1 + _ORDERS)
    )


def _between(rank_sums: Array) -> Array:
    """Squared deviations of the methods' rank sums from their mean, summed over the last axis."""
    deviations = rank_sums - rank_sums.mean(axis=-1, keepdims=True)
    squares: Array = (deviations**2).sum(axis=-1)
    return squares


def critical_difference(k: int, n: int, alpha: float = 0.05) -> float:
    """Return how far apart two average ranks must be to differ: q(alpha, k) · √(k (k + 1) / (6 n)).

    Nemenyi's (1963) test of all pairs; q is the studentized range's quantile for infinite degrees of freedom
    over √2 (Demšar 2006, table 5).

    Args:
        k: Methods, at least 2.
        n: Tasks, at least 1.
        alpha: Family-wise level, in (0, 1).

    Raises:
        UserError: There are too few methods or tasks, or alpha is outside (0, 1).

    Example:
        >>> round(critical_difference(k=4, n=14), 2)
        1.25
    """
    if k < 2 or n < 1:
        raise UserError(
            f"Ranks of {k} methods over {n} tasks have no critical difference: "
            f"2 methods and 1 task are the least."
        )
    fraction("alpha", alpha)
    from scipy.stats import studentized_range  # type: ignore[import-untyped]

    q = float(studentized_range.ppf(1 - alpha, k, np.inf)) / math.sqrt(2)
    return q * math.sqrt(k * (k + 1) / (6 * n))


def cliques(average: Mapping[str, float], difference: float) -> tuple[tuple[str, ...], ...]:
    """Return the largest groups of methods whose ranks all lie less than a difference apart.

    Args:
        average: Average rank by method.
        difference: The critical difference.

    Returns:
        Groups of two or more, best first; a method may stand in several, none lies inside another.

    Example:
        >>> cliques({"a": 1.0, "b": 2.0, "c": 2.5, "d": 4.0}, difference=1.2)
        (('a', 'b'), ('b', 'c'))
    """
    names = sorted(average, key=average.__getitem__)
    found: list[tuple[str, ...]] = []
    reached = 0
    for start, first in enumerate(names):
        end = start
        while end < len(names) and average[names[end]] - average[first] < difference:
            end += 1
        if end > reached and end - start > 1:
            found.append(tuple(names[start:end]))
            reached = end
    return tuple(found)


def critical_difference_diagram(
    table: Mapping[str, Mapping[str, float]],
    *,
    lower_is_better: Collection[str] = (),
    alpha: float = 0.05,
    generator: np.random.Generator | None = None,
) -> CriticalDifference:
    """Return all that a critical-difference diagram over tasks shows.

    Nemenyi's groups stand only where Friedman's test rejects; else all methods are one group. That test is
    taken by permutation, because Nemenyi's alone rests on many tasks too (two methods that differ in no way:
    7 to 1 over eight tasks, which is no rarity, would be a claim).

    Args:
        table: Score (a mean over seeds) by method and task.
        lower_is_better: The tasks whose metric is an error or a loss.
        alpha: Family-wise level, in (0, 1).
        generator: Draws the random orders of Friedman's test. Default: one with seed 0.

    Raises:
        UserError: A score is NaN or infinite, the table has no methods, or alpha is outside (0, 1).

    Example:
        >>> tasks = [f"task{i}" for i in range(8)]
        >>> good, fair, bad = (dict.fromkeys(tasks, score) for score in (3.0, 2.0, 1.0))
        >>> diagram = critical_difference_diagram({"good": good, "fair": fair, "bad": bad})
        >>> diagram.cliques, round(diagram.difference, 2)
        ((('good', 'fair'), ('fair', 'bad')), 1.17)
    """
    fraction("alpha", alpha)
    ranks = average_ranks(table, lower_is_better=lower_is_better)
    test = friedman(table, lower_is_better=lower_is_better, generator=generator)
    possible = test.k > 1 and test.n > 1
    difference = critical_difference(test.k, test.n, alpha) if possible else math.inf
    shown = difference if test.permutation_p <= alpha else math.inf
    return CriticalDifference(ranks, test, difference, cliques(ranks.average, shown), alpha)


def _rank_matrix(
    table: Mapping[str, Mapping[str, float]], lower_is_better: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...], Array]:
    """Tasks used, tasks left out, and ranks from 1 (best), [task, method]."""
    if not table:
        raise UserError("The table has no methods. Give the scores of at least one.")
    every = list(dict.fromkeys(task for scores in table.values() for task in scores))
    tasks = tuple(task for task in every if all(task in scores for scores in table.values()))
    matrix = np.empty((len(tasks), len(table)))
    for row, task in zip(matrix, tasks, strict=True):
        scores = finite((column[task] for column in table.values()), f"The scores on {task}")
        row[:] = midranks(scores if task in lower_is_better else -scores, noise(scores))
    return tasks, tuple(task for task in every if task not in tasks), matrix
