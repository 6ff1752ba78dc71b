"""Numbers as people read them, the same on the terminal, in exports and on the page."""

from __future__ import annotations

import math

from regathlon.leaderboard import Missing, Row, Table
from regathlon_core.statistics import Gain, Summary

NOTHING = "–"


def mean_and_spread(summary: Summary) -> str:
    """Write mean ± sample standard deviation (number of seeds).

    Example:
        >>> mean_and_spread(Summary(3, 0.91, 0.02)), mean_and_spread(Summary(1, 0.5, float("nan")))
        ('0.9100 ± 0.0200 (3)', '0.5000 (1)')
    """
    if not summary.n:
        return NOTHING
    spread = f" ± {summary.std:.4f}" if math.isfinite(summary.std) else ""
    return f"{summary.mean:.4f}{spread} ({summary.n})"


def gain(found: Gain | None) -> str:
    """Write a gain and its interval, if it has one.

    Example:
        >>> gain(None)
        '–'
    """
    if found is None:
        return NOTHING
    interval = found.interval
    known = math.isfinite(interval.low)
    return f"{found.gain:+.4f}" + (f" [{interval.low:+.4f}, {interval.high:+.4f}]" if known else "")


def p_value(p: float | None) -> str:
    """Write a p-value.

    Example:
        >>> p_value(0.03125), p_value(0.00002), p_value(1.0), p_value(None)
        ('0.031', '<0.001', '1', '–')
    """
    if p is None:
        return NOTHING
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.9995 else "1"


def with_ratio(value: str | None, ratio: float | None) -> str:
    """Write a cost and how many times the baseline's it is."""
    if value is None:
        return NOTHING
    return value if ratio is None else f"{value} ({ratio:.2f}×)"


def seconds(row: Row) -> str:
    """Write a row's training time."""
    value = row.costs.train_seconds
    return with_ratio(None if value is None else f"{value:.1f} s", row.costs.time_ratio)


def flops(row: Row) -> str:
    """Write a row's floating-point operations."""
    value = row.costs.train_flops
    return with_ratio(None if value is None else si(value), row.costs.flops_ratio)


def si(value: float) -> str:
    """Write a count with a prefix.

    Example:
        >>> si(2.5e9)
        '2.50 G'
    """
    for factor, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.2f} {prefix}"
    return f"{value:.0f}"


def missing(found: Missing) -> str:
    """Write why trials have no score."""
    said = found.reason or {"planned": "not run yet", "running": "at work"}.get(found.status, "")
    said = f"{found.status}: {said}" if said and found.status != "done" else said or found.status
    return said if found.all else f"seed {', '.join(map(str, found.seeds))}: {said}"


def notes(table: Table) -> list[tuple[str, str]]:
    """Return what is to be said below a table about its rows: about whom, and what."""
    groups: dict[str, list[str]] = {}
    for row in table.rows:
        for found in row.missing:
            groups.setdefault(missing(found), []).append(row.name)
    return [
        ("" if len(names) == 1 and names[0] in note else f"{', '.join(names)}: ", note)
        for note, names in groups.items()
    ]


def metric(table: Table) -> str:
    """Write what a table's scores are."""
    return f"{table.metric or 'score'}{' (lower is better)' if table.lower_is_better else ''}"


def claims(table: Table) -> list[str]:
    """Return what a table claims and by which test, or why it claims nothing, one sentence each."""
    if not any(row.scored for row in table.rows):
        return []
    if table.refusals:
        return [f"No claim: {refusal}" for refusal in table.refusals]
    test = {"permutation": "exact permutation", "wilcoxon": "Wilcoxon signed-rank", "t": "Student's t"}
    return [
        f"Marked: the best mean, and all that are not distinguishable from it ({test[table.test]} test paired by "
        f"seed, Holm over {len(table.pairs)} pair{'s' if len(table.pairs) > 1 else ''}, alpha {table.alpha:g})."
    ]


def more_seeds(row: Row) -> str:
    """Write how many more seeds would show a row's gain.

    Where thousands would not, the number says little.
    """
    count = row.more_seeds
    return NOTHING if count is None else f"+{count}" if count < 1000 else "+1000s"
