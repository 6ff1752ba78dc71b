"""Mean, spread and paired difference of results over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """Results over seeds.

    Attributes:
        mean: Their mean.
        std: Sample standard deviation (n - 1 in the denominator); None for one.
        count: How many.
    """

    mean: float
    std: float | None
    count: int


def summarize(values: Sequence[float]) -> Summary | None:
    """Summarise values; None where there are none.

    Example:
        >>> summarize([0.5, 0.7])
        Summary(mean=0.6, std=0.141421356237309..., count=2)
    """
    if not values:
        return None
    std = statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None
    return Summary(statistics.fmean(values), std, len(values))


def paired_gain(
    values: Mapping[int, float], baseline: Mapping[int, float], *, lower_is_better: bool = False
) -> Summary | None:
    """Summarise how much better values are than a baseline's, seed by seed; None where they share no seed.

    Example:
        >>> paired_gain({0: 0.5, 1: 0.75, 2: 0.9}, {0: 0.25, 1: 0.25})
        Summary(mean=0.375, std=0.176776695296636..., count=2)
    """
    sign = -1 if lower_is_better else 1
    return summarize(
        [sign * (values[seed] - baseline[seed]) for seed in sorted(values.keys() & baseline.keys())]
    )
