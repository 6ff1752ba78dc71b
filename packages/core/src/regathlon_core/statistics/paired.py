"""Tests of two methods that ran on the same seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from regathlon_core.errors import UserError, unknown
from regathlon_core.statistics.summary import Array, Scores, finite, noise

TestMethod: TypeAlias = Literal["permutation", "wilcoxon", "t"]

_EXACT_UP_TO = 32
_FLIPS = 99_999


@dataclass(frozen=True)
class PairedTest:
    """A two-sided test that two methods do not differ.

    Attributes:
        method: ``"permutation"``, ``"wilcoxon"`` or ``"t"``.
        n: Seeds that both methods have.
        difference: Mean of first minus second over those seeds, in the scores' unit; NaN for none.
        statistic: The mean difference, the signed-rank sum W+ - W-, or Student's t. Its sign says which is
            larger.
        p_value: Two-sided, in (0, 1]; 1 where the seeds say nothing.
        exact: False where sign flips were drawn, not counted, and for t, which rests on normal differences.
    """

    method: TestMethod
    n: int
    difference: float
    statistic: float
    p_value: float
    exact: bool


def paired_test(
    a: Scores,
    b: Scores,
    method: TestMethod = "permutation",
    *,
    generator: np.random.Generator | None = None,
) -> PairedTest:
    """Test whether two methods differ, seed by seed.

    ``"permutation"`` flips the signs of the differences (Fisher 1935, "The Design of Experiments", section
    21; Good 2005, "Permutation, Parametric and Bootstrap Tests of Hypotheses"): p is the share of all 2^n
    flips whose mean is at least as far from 0 as the observed one. Its level holds for scores of any
    distribution, provided that without a difference the two scores of a seed might as well have been swapped.
    ``"wilcoxon"`` does the same to the signed ranks (Wilcoxon 1945), differences of 0 left out, ties by their
    average rank. ``"t"`` is Student's paired test.

    Both flipping tests are exact up to 32 seeds, ties included: the sums of the two halves of the differences
    are listed and sorted, and the pairs of them beyond the observed sum are counted by bisection, so 32 seeds
    take 2^16 steps instead of 2^32. Beyond 32 seeds, p = (1 + hits) / (1 + 99,999) over drawn flips (Phipson
    and Smyth 2010).

    Differences that are all 0 give p = 1. If all are the same but not 0, Student's t is infinite whatever the
    number of seeds (two seeds with coarse scores suffice): p is then that of the permutation test.

    Args:
        a: Scores of the first method by seed, or a sequence in which the order is the pairing.
        b: Scores of the second. From two mappings, the seeds in both are used.
        method: Which test.
        generator: Draws the flips beyond 32 seeds. Default: one with seed 0, so that two reports agree.

    Raises:
        UserError: A score is NaN or infinite, two sequences differ in length, or there is no such test.

    Example:
        >>> test = paired_test({0: 91.0, 1: 92.5, 2: 93.0}, {0: 90.0, 1: 91.0, 2: 92.0})
        >>> test.p_value, test.n, round(test.difference, 3)
        (0.25, 3, 1.167)
    """
    _check(method)
    x, y = pair_by_seed(a, b)
    d = x - y
    rounding = noise(x, y)
    d[np.abs(d) <= rounding] = 0.0
    n = d.size
    mean = float(d.mean()) if n else math.nan
    if not d.any():
        return PairedTest(method, n, mean, 0.0, 1.0, exact=method != "t")
    if method == "t":
        deviation = float(d.std(ddof=1)) if n > 1 else 0.0
        if deviation > rounding:
            from scipy.special import stdtr  # type: ignore[import-untyped]

            t = mean * math.sqrt(n) / deviation
            return PairedTest(method, n, mean, t, float(2 * stdtr(n - 1, -abs(t))), exact=False)
        statistic = math.copysign(math.inf, mean)
        values, tolerance = d, n * rounding
    elif method == "wilcoxon":
        d_nonzero = d[d != 0]
        values, tolerance = np.sign(d_nonzero) * midranks(np.abs(d_nonzero), rounding), 0.25
        statistic = float(values.sum())
    else:
        statistic, values, tolerance = mean, d, n * rounding
    p_value = _counted_p(values, tolerance) if n <= _EXACT_UP_TO else _drawn_p(values, tolerance, generator)
    return PairedTest(method, n, mean, statistic, p_value, exact=n <= _EXACT_UP_TO and method != "t")


def smallest_p(n: int, method: TestMethod = "permutation") -> float:
    """Return the smallest p-value that a test can give with n seeds, whatever the scores.

    The flipping tests' smallest is 2 / 2^n: with three seeds, 0.25, so nothing can be significant.

    Args:
        n: Number of seeds.
        method: Which test. Student's has no smallest value from two seeds on: 0.

    Raises:
        UserError: There is no such test.

    Example:
        >>> smallest_p(3), smallest_p(6), smallest_p(3, "t")
        (0.25, 0.03125, 0.0)
    """
    _check(method)
    if method == "t":
        return 0.0 if n >= 2 else 1.0
    if n > _EXACT_UP_TO:
        return 1 / (1 + _FLIPS)
    return min(1.0, 2.0 ** (1 - n))


def least_seeds(comparisons: int = 1, alpha: float = 0.05, method: TestMethod = "permutation") -> int:
    """Return the least number of seeds with which any of several comparisons could be significant after Holm.

    Args:
        comparisons: How many p-values are corrected together.
        alpha: Level of the whole table.
        method: Which test.

    Example:
        >>> least_seeds(), least_seeds(comparisons=10), least_seeds(comparisons=10, method="t")
        (6, 9, 2)
    """
    n = 2
    while n < _EXACT_UP_TO and comparisons * smallest_p(n, method) > alpha:
        n += 1
    return n


def pair_by_seed(a: Scores, b: Scores) -> tuple[Array, Array]:
    """Return the scores of both methods on the seeds that both have: two float64 arrays, [n].

    Raises:
        UserError: A score is NaN or infinite, or the two cannot be paired.
    """
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        shared = [seed for seed in a if seed in b]
        return finite(a[seed] for seed in shared), finite(b[seed] for seed in shared)
    if isinstance(a, Mapping) or isinstance(b, Mapping):
        raise UserError("Scores by seed cannot be paired with scores without. Give the seeds of both.")
    if len(a) != len(b):
        raise UserError(
            f"{len(a)} scores cannot be paired with {len(b)}. "
            f"Give both by seed, and the shared ones are used."
        )
    return finite(a), finite(b)


def midranks(values: Array, tolerance: float = 0.0) -> Array:
    """Return ranks from 1 (smallest), ties by their average: float64, [n].

    Args:
        values: What to rank, [n].
        tolerance: Neighbours no further apart than this tie.

    Example:
        >>> midranks(np.array([0.3, 0.1, 0.3])).tolist()
        [2.5, 1.0, 2.5]
    """
    order = np.argsort(values, kind="stable")
    group = np.concatenate([[0], np.cumsum(np.diff(values[order]) > tolerance)])
    size = np.bincount(group)
    ranks = np.empty(values.size)
    ranks[order] = (np.cumsum(size) - (size - 1) / 2)[group]
    return ranks


def _check(method: str) -> None:
    if method not in get_args(TestMethod):
        raise unknown("paired test", method, get_args(TestMethod))


def _counted_p(values: Array, tolerance: float) -> float:
    """Share of all sign flips whose |sum| reaches the observed one, up to the tolerance."""
    observed = abs(float(values.sum())) - tolerance
    if observed <= 0:
        return 1.0
    half = values.size // 2
    left, right = np.sort(_signed_sums(values[:half])), np.sort(_signed_sums(values[half:]))
    below = int(np.searchsorted(right, observed - left).sum())
    total = left.size * right.size
    # Flipping everything turns a sum into its negative, so both tails are as large.
    return 2 * (total - below) / total


def _drawn_p(values: Array, tolerance: float, generator: np.random.Generator | None) -> float:
    """The same from drawn flips. Twelve signs are one draw from the table of their sums."""
    generator = generator if generator is not None else np.random.default_rng(0)
    observed = abs(float(values.sum())) - tolerance
    sums = np.zeros(_FLIPS)
    for start in range(0, values.size, 12):
        part = _signed_sums(values[start : start + 12])
        sums += part[generator.integers(part.size, size=_FLIPS)]
    hits = int((np.abs(sums) >= observed).sum())
    return (1 + hits) / (1 + _FLIPS)


def _signed_sums(values: Array) -> Array:
    """All 2^n sums of ±values."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums
