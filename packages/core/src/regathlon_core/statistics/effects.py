"""How large a difference is, and how many seeds it would take to show it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from regathlon_core.errors import UserError
from regathlon_core.statistics.paired import TestMethod, least_seeds, pair_by_seed
from regathlon_core.statistics.summary import Scores, fraction, noise

_LARGEST_EFFECT = 20.0


@dataclass(frozen=True)
class EffectSize:
    """How far one method is ahead of another, without unit.

    Attributes:
        n: Seeds that both methods have.
        d_z: Mean of the differences over their standard deviation (Cohen 1988, "Statistical Power Analysis
            for the Behavioral Sciences", section 2.3.5); positive where the first is better. NaN for fewer
            than two seeds.
        g_z: d_z times Hedges' (1981) correction, without bias for normal differences. NaN for fewer than
            three.
        superiority: Share of seeds on which the first is better, ties by half: the common-language effect
            size of paired scores (McGraw and Wong 1992; Grissom and Kim 2012). In [0, 1], 0.5 is no
            difference; NaN for none.
    """

    n: int
    d_z: float
    g_z: float
    superiority: float


def effect_size(a: Scores, b: Scores, *, lower_is_better: bool = False) -> EffectSize:
    """Return effect sizes of two methods paired by seed.

    Differences without spread make d_z infinite, or 0 if they are all 0.

    Args:
        a: Scores of the first method by seed, or a sequence in which the order is the pairing.
        b: Scores of the second.
        lower_is_better: The scores are errors or losses.

    Raises:
        UserError: A score is NaN or infinite, or the two cannot be paired.

    Example:
        >>> size = effect_size([92.0, 94.0, 93.0, 95.0], [91.0, 91.0, 91.0, 95.0])
        >>> round(size.d_z, 3), round(size.g_z, 3), size.superiority
        (1.162, 0.841, 0.875)
    """
    x, y = pair_by_seed(a, b)
    d = y - x if lower_is_better else x - y
    rounding = noise(x, y)
    d[np.abs(d) <= rounding] = 0.0
    n = d.size
    if n == 0:
        return EffectSize(0, math.nan, math.nan, math.nan)
    d_z = math.nan
    if n > 1:
        mean, deviation = float(d.mean()), float(d.std(ddof=1))
        d_z = mean / deviation if deviation > rounding else math.copysign(math.inf, mean) if mean else 0.0
    superiority = float((d > 0).mean() + (d == 0).mean() / 2)
    return EffectSize(n, d_z, d_z * _hedges_correction(n - 1), superiority)


def _hedges_correction(degrees: int) -> float:
    """Hedges (1981), J(m) = Γ(m/2) / (√(m/2) Γ((m - 1)/2)); NaN below two degrees of freedom."""
    if degrees < 2:
        return math.nan
    return math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees - 1) / 2)) / math.sqrt(degrees / 2)


@dataclass(frozen=True)
class SeedsNeeded:
    """How many seeds it takes to show a difference.

    Attributes:
        total: The larger of the two below; None where no number of seeds would do (a difference of 0).
        by_power: What the difference's size asks for.
        by_test: What the test asks for before it can show any difference.
    """

    total: int | None
    by_power: int | None
    by_test: int

    def more(self, have: int) -> int | None:
        """Return how many seeds are missing from those there are; None where no number would do."""
        return None if self.total is None else max(0, self.total - have)


def seeds_needed(
    difference: float,
    sd_of_differences: float,
    power: float = 0.8,
    alpha: float = 0.05,
    *,
    comparisons: int = 1,
    method: TestMethod = "permutation",
) -> SeedsNeeded:
    """Return how many seeds would show a difference of this size.

    The least n at which a two-sided paired t test at level alpha / comparisons finds a true difference of
    this size, in its direction, with the wanted power (Cohen 1988, section 2.3.5, with the noncentral t
    distribution), but no fewer than the test in use needs for its smallest p-value. The permutation test's
    power is close to t's where the latter bound does not bind. A difference and a spread measured on few
    seeds are themselves uncertain: a hint, not a promise.

    Args:
        difference: Mean difference between two methods, in the scores' unit.
        sd_of_differences: Sample standard deviation of the differences by seed, in the same unit.
        power: Wanted probability of showing it, in (0, 1).
        alpha: Level of the whole table, in (0, 1).
        comparisons: How many p-values Holm corrects together; the first one must be below alpha /
            comparisons.
        method: The test in use.

    Raises:
        UserError: The spread is negative, a number is NaN or infinite, or power or alpha is outside (0, 1).

    Example:
        >>> seeds_needed(difference=0.5, sd_of_differences=0.5)
        SeedsNeeded(total=10, by_power=10, by_test=6)
        >>> seeds_needed(0.5, 0.5, comparisons=10).more(have=3)
        15
    """
    if not (math.isfinite(difference) and math.isfinite(sd_of_differences) and sd_of_differences >= 0):
        raise UserError(
            f"A difference of {difference} with standard deviation {sd_of_differences} cannot be planned "
            f"for: both must be finite, the deviation not negative."
        )
    fraction("power", power)
    level = fraction("alpha", alpha) / comparisons
    by_test = least_seeds(comparisons, alpha, method)
    if difference == 0:
        return SeedsNeeded(None, None, by_test)
    effect = abs(difference) / sd_of_differences if sd_of_differences else math.inf
    by_power = _seeds_by_power(min(effect, _LARGEST_EFFECT), power, level)
    return SeedsNeeded(max(by_power, by_test), by_power, by_test)


def _seeds_by_power(effect: float, power: float, level: float) -> int:
    from scipy.special import ndtri, stdtrit  # type: ignore[import-untyped]
    from scipy.stats import nct  # type: ignore[import-untyped]

    def enough(n: int) -> bool:
        return bool(nct.sf(stdtrit(n - 1, 1 - level / 2), n - 1, effect * math.sqrt(n)) >= power)

    normal = math.ceil(float((ndtri(1 - level / 2) + ndtri(power)) / effect) ** 2)
    if normal > 10_000:  # t is normal by then, and its noncentral form loses digits
        return normal
    n = max(2, normal)
    while n > 2 and enough(n - 1):
        n -= 1
    while not enough(n):
        n += 1
    return n
