"""One method on one task: mean, spread and interval over its seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from regathlon_core.errors import UserError, unknown

Array: TypeAlias = NDArray[np.float64]
Seed: TypeAlias = int | str
Scores: TypeAlias = Mapping[Seed, float] | Sequence[float] | Array
"""Scores by seed, or, where the order is the pairing, one after another."""

IntervalMethod: TypeAlias = Literal["t", "bca"]
_RESAMPLES = 9_999


@dataclass(frozen=True)
class Summary:
    """Mean and spread of a sample.

    Attributes:
        n: How many values.
        mean: Their mean, in the values' unit; NaN for none.
        std: Sample standard deviation (n - 1 in the denominator), in the values' unit; NaN for fewer than
            two.
    """

    n: int
    mean: float
    std: float


@dataclass(frozen=True)
class Interval:
    """A confidence interval for a mean.

    Attributes:
        low: Lower end, in the values' unit; NaN where the values cannot tell.
        high: Upper end, likewise.
        level: Confidence, in (0, 1).
        method: ``"t"`` or ``"bca"``.
    """

    low: float
    high: float
    level: float
    method: IntervalMethod


def summarize(values: Iterable[float]) -> Summary:
    """Return n, mean and sample standard deviation.

    Args:
        values: Scores, one per seed, in any unit.

    Raises:
        UserError: A value is NaN or infinite.

    Example:
        >>> summarize([90.0, 92.0, 94.0])
        Summary(n=3, mean=92.0, std=2.0)
        >>> summarize([90.0])
        Summary(n=1, mean=90.0, std=nan)
    """
    x = finite(values)
    return Summary(
        n=x.size,
        mean=float(x.mean()) if x.size else math.nan,
        std=float(x.std(ddof=1)) if x.size > 1 else math.nan,
    )


def confidence_interval(
    values: Iterable[float],
    level: float = 0.95,
    method: IntervalMethod = "t",
    *,
    generator: np.random.Generator | None = None,
) -> Interval:
    """Return a confidence interval for the mean over seeds.

    ``"t"`` is Student's interval, mean ± t(n - 1) · std / √n: exact for normal scores. ``"bca"`` is the
    bias-corrected and accelerated bootstrap (Efron 1987, "Better bootstrap confidence intervals"), which
    follows skewed scores but is too narrow below about twenty seeds.

    Both ends are NaN where the values cannot tell: fewer than two of them, or all the same (no spread to
    estimate).

    Args:
        values: Scores, one per seed, in any unit.
        level: Confidence, in (0, 1).
        method: ``"t"`` or ``"bca"``.
        generator: Draws the bootstrap's 9,999 resamples. Default: one with seed 0, so that two reports of the
            same run agree.

    Raises:
        UserError: A value is NaN or infinite, the level is outside (0, 1), or there is no such method.

    Example:
        >>> interval = confidence_interval([90.0, 92.0, 94.0])
        >>> round(interval.low, 2), round(interval.high, 2)
        (87.03, 96.97)
    """
    x = finite(values)
    fraction("level", level)
    if method not in ("t", "bca"):
        raise unknown("interval", method, ["t", "bca"])
    if x.size < 2 or x.std() <= noise(x):
        return Interval(math.nan, math.nan, level, method)
    if method == "t":
        from scipy.special import stdtrit  # type: ignore[import-untyped]

        half = stdtrit(x.size - 1, (1 + level) / 2) * x.std(ddof=1) / math.sqrt(x.size)
        low, high = x.mean() - half, x.mean() + half
    else:
        from scipy.stats import bootstrap  # type: ignore[import-untyped]

        low, high = bootstrap(
            (x,),
            np.mean,
            confidence_level=level,
            n_resamples=_RESAMPLES,
            method="BCa",
            random_state=generator if generator is not None else np.random.default_rng(0),
        ).confidence_interval
    return Interval(float(low), float(high), level, method)


def difference_interval(first: Summary, second: Summary | float, level: float = 0.95) -> Interval:
    """Return a confidence interval for the difference of two means that no seeds pair.

    Welch's (1947) interval, which assumes no common spread; where the second is a number without a spread, Student's.
    Both ends are NaN where the values cannot tell: fewer than two of a sample, or no spread at all.

    Args:
        first: n, mean and spread of a sample.
        second: Of another one, or a number that is taken as exact.
        level: Confidence, in (0, 1).

    Raises:
        UserError: The level is outside (0, 1).

    Example:
        >>> interval = difference_interval(Summary(10, 80.7, 0.6), Summary(100, 82.9, 0.5))
        >>> round(interval.low, 2), round(interval.high, 2)
        (-2.64, -1.76)
    """
    from scipy.special import stdtrit

    fraction("level", level)
    other = second if isinstance(second, Summary) else Summary(0, float(second), 0.0)
    samples = [first, other] if isinstance(second, Summary) else [first]
    nothing = Interval(math.nan, math.nan, level, "t")
    if any(sample.n < 2 for sample in samples):
        return nothing
    squares = [sample.std**2 / sample.n for sample in samples]
    if not sum(squares) > 0:
        return nothing
    degrees = sum(squares) ** 2 / sum(
        square**2 / (sample.n - 1) for square, sample in zip(squares, samples, strict=True)
    )
    half = float(stdtrit(degrees, (1 + level) / 2)) * math.sqrt(sum(squares))
    difference = first.mean - other.mean
    return Interval(difference - half, difference + half, level, "t")


def finite(values: Iterable[float], what: str = "The scores") -> Array:
    """Return the values as one float64 axis, or refuse those that are no numbers.

    Raises:
        UserError: A value is NaN or infinite.
    """
    x = np.fromiter((float(value) for value in values), np.float64)
    if not np.isfinite(x).all():
        raise UserError(
            f"{what} hold {x[~np.isfinite(x)][0]}, which no statistic can use. "
            f"A trial that diverged has no score: leave it out, so that it counts as missing."
        )
    return x


def noise(*arrays: Array) -> float:
    """Return the size below which a difference of scores is rounding (0.9 - 0.8 against 0.8 - 0.7)."""
    return (
        8
        * float(np.finfo(np.float64).eps)
        * max((float(np.abs(x).max(initial=0)) for x in arrays), default=0)
    )


def fraction(name: str, value: float) -> float:
    """Return a value inside (0, 1), or refuse it.

    Raises:
        UserError: It is outside.
    """
    if not 0 < value < 1:
        raise UserError(f"{name} must lie between 0 and 1 (0.95, say), not {value}.")
    return value
