"""How often a table without any difference claims one, and how often a real difference is claimed: simulations.

    uv run python benchmarks/statistics/claims.py                          # the tables of docs/statistics.md
    uv run python benchmarks/statistics/claims.py --tables 500 --tests permutation --seeds 10 --methods 5

Prints Markdown. A false claim is any pair of methods that ``compare_methods`` calls distinguishable in a table whose methods
all draw from the same distribution (or, for "unequal spread", from distributions with the same mean).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from regathlon_core.statistics import compare_methods

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Array]

ALPHA = 0.05


def unequal(generator: np.random.Generator, methods: int, seeds: int) -> Array:
    """Normal scores; deviations from 0.2 to 3."""
    return generator.normal(size=(methods, seeds)) * np.geomspace(0.2, 3, methods)[:, None]


KINDS: dict[str, Draw] = {
    "normal": lambda g, k, n: g.normal(size=(k, n)),
    "lognormal": lambda g, k, n: g.lognormal(size=(k, n)),
    "Cauchy": lambda g, k, n: g.standard_cauchy(size=(k, n)),
    "seed effect": lambda g, k, n: g.normal(size=(k, n)) + 3 * g.normal(size=n),
    "coarse": lambda g, k, n: g.binomial(20, 0.8, size=(k, n)) / 20,
    "unequal spread": unequal,
}
"""Tables without a difference; [methods, seeds]."""


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tables", type=int, default=10_000, help="of each kind without a difference")
    parser.add_argument("--power-tables", type=int, default=2_000, help="of each size of a difference")
    parser.add_argument(
        "--tests", nargs="+", default=["permutation"], choices=["permutation", "wilcoxon", "t"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[6, 8, 10, 20])
    parser.add_argument(
        "--methods", nargs="+", type=int, default=[2, 3, 5, 5], help="one for each of --seeds"
    )
    arguments = parser.parse_args()
    shapes = list(zip(arguments.methods, arguments.seeds, strict=True))
    print_rows(
        ["test", "seeds, methods", *KINDS],
        (
            [test, f"{seeds}, {methods}"]
            + [
                percent(false_claims(test, draw, methods, seeds, arguments.tables), arguments.tables)
                for draw in KINDS.values()
            ]
            for test in arguments.tests
            for methods, seeds in shapes
        ),
    )
    sizes = [0.5, 1.0, 1.5, 2.0, 3.0]
    print_rows(
        ["test", "seeds, methods", *(f"d_z = {size:g}" for size in sizes)],
        (
            [test, f"{seeds}, {methods}"]
            + [" / ".join(f"{100 * share:.0f} %" for share in power(test, methods, seeds, size, arguments.power_tables))
               for size in sizes]
            for test in arguments.tests
            for methods, seeds in shapes
        ),
    )  # fmt: skip


def false_claims(test: str, draw: Draw, methods: int, seeds: int, tables: int) -> float:
    """Return the share of tables without a difference that claim one."""
    generator = np.random.default_rng(0)
    claims = 0
    for _ in range(tables):
        table = compare_methods(named(draw(generator, methods, seeds)), method=test, alpha=ALPHA)
        claims += any(pair.distinguishable for pair in table.pairs)
    return claims / tables


def power(test: str, methods: int, seeds: int, size: float, tables: int) -> tuple[float, float]:
    """Return how often a method that is better than all others is claimed to gain on one, and to be alone the best.

    Args:
        test: The paired test.
        methods: In the table.
        seeds: Of each.
        size: The difference, in standard deviations of the difference of two methods by seed.
        tables: How many to draw.
    """
    generator = np.random.default_rng(1)
    gains = alone = 0
    for _ in range(tables):
        scores = generator.normal(size=(methods, seeds))
        scores[0] += size * math.sqrt(2)
        table = compare_methods(named(scores), method=test, alpha=ALPHA, baseline="m1")
        gains += next(gain for gain in table.gains if gain.method == "m0").claimed
        alone += table.bold == ("m0",)
    return gains / tables, alone / tables


def named(scores: Array) -> dict[str, dict[int, float]]:
    """Return a table as ``compare_methods`` wants it."""
    return {f"m{method}": dict(enumerate(row)) for method, row in enumerate(scores.tolist())}


def percent(share: float, tables: int) -> str:
    """Write a share; one that is above alpha by more than five standard errors is marked."""
    limit = ALPHA + 5 * math.sqrt(ALPHA * (1 - ALPHA) / tables)
    return f"{100 * share:.1f} %{' (!)' if share > limit else ''}"


def print_rows(heading: Sequence[str], rows: Iterator[list[str]]) -> None:
    """Print a Markdown table, row by row as they are done."""
    sys.stdout.write(f"| {' | '.join(heading)} |\n|{'---|' * len(heading)}\n")
    for row in rows:
        sys.stdout.write(f"| {' | '.join(row)} |\n")
        sys.stdout.flush()
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
