"""The page's charts, drawn by matplotlib in key colours. They show what the analysis found and compute nothing.

Sizes are in pixels: 72 dots per inch make matplotlib's points pixels of the SVG.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regathlon.page.looks import GRID, INK, MUTED, Look
from regathlon.page.svg import FONT_SIZE
from regathlon.page.text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from regathlon_core.statistics import CriticalDifference

WIDTH = 300.0
"""Of a chart that is one of several; fits a phone."""
_ROW = 20.0
_LETTER = 5.9
_MARKER = 8.5
_ARROW = 6.5
_LABEL = 24


@dataclass(frozen=True)
class Bar:
    """A value with its interval.

    Attributes:
        look: Of its series.
        name: Beside it.
        value: Where the marker stands.
        low: Lower end of the interval; NaN where there is none.
        high: Upper end, likewise.
        strong: Whether the name is set in bold.
    """

    look: Look
    name: str
    value: float
    low: float
    high: float
    strong: bool = False


@dataclass(frozen=True)
class Point:
    """A gain at its cost, with the gain's interval (NaN where there is none)."""

    look: Look
    cost: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """A mean over seeds by epoch, and the range of the seeds."""

    look: Look
    epochs: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def key(look: Look) -> Figure:
    """Draw the sign of a series: its line and its marker."""
    figure, axes = _sheet(30, 14)
    axes.plot([1, 29], [7, 7], color=look.color, linestyle=look.line, linewidth=1.6)
    axes.plot([15], [7], color=look.color, marker=look.marker, markersize=9.5, markeredgewidth=0.8)
    return figure


def intervals(bars: Sequence[Bar], label: str) -> Figure:
    """Draw values with their intervals, one row each, in the order given.

    Args:
        bars: From top to bottom.
        label: Of the value axis.
    """
    margin = _margin(bar.name for bar in bars)
    figure, axes = _plot(WIDTH, 46 + _ROW * len(bars), left=margin, bottom=38)
    ends = reach([bar.value for bar in bars], [(bar.low, bar.high) for bar in bars])
    axes.set_xlim(*ends)
    for row, bar in enumerate(bars):
        style: dict[str, Any] = {"color": bar.look.color, "gid": _gid(bar.look), "clip_on": False}
        if bar.low <= bar.high:
            inside = max(bar.low, ends[0]), min(bar.high, ends[1])
            axes.plot(inside, [row, row], linewidth=1.8, solid_capstyle="butt", **style)
            for arrow, at in _arrows((bar.low, bar.high), ends, "<>"):
                axes.plot([at], [row], marker=arrow, markersize=_ARROW, markeredgewidth=0, **style)
        axes.plot([bar.value], [row], marker=bar.look.marker, markersize=_MARKER, **style)
    axes.set_yticks(range(len(bars)), list(labels([bar.name for bar in bars]).values()))
    for bar, text in zip(bars, axes.get_yticklabels(), strict=True):
        text.set_color(INK)
        text.set_fontweight("bold" if bar.strong else "normal")
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    _grid(axes, "x")
    axes.set_xlabel(one_line(label))
    _few_ticks(axes, "x", 5)
    return figure


def trade(points: Sequence[Point], cost_label: str, gain_label: str) -> Figure:
    """Draw gains against costs, the baseline at no gain for its own cost.

    Args:
        points: In any order.
        cost_label: Of the logarithmic axis of costs over the baseline's.
        gain_label: Of the other axis.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    figure, axes = _plot(WIDTH, 250, left=52, bottom=38)
    axes.set_xscale("log")
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.axvline(1, color=INK, linewidth=0.8)
    ends = reach([0.0, *(point.gain for point in points)], [(point.low, point.high) for point in points])
    axes.set_ylim(*ends)
    for point in points:
        style: dict[str, Any] = {"color": point.look.color, "gid": _gid(point.look), "clip_on": False}
        if point.low <= point.high:
            inside = max(point.low, ends[0]), min(point.high, ends[1])
            axes.plot([point.cost] * 2, inside, linewidth=1.2, **style)
            for arrow, at in _arrows((point.low, point.high), ends, "v^"):
                axes.plot([point.cost], [at], marker=arrow, markersize=_ARROW, markeredgewidth=0, **style)
        axes.plot([point.cost], [point.gain], marker=point.look.marker, markersize=_MARKER + 1.5, **style)
    costs = [1.0, *(point.cost for point in points)]
    low, high = min(costs) / 1.12, max(costs) * 1.12
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(_cost_ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    _grid(axes, "both")
    axes.set_xlabel(cost_label)
    axes.set_ylabel(one_line(gain_label))
    _few_ticks(axes, "y", 6)
    return figure


def curves(found: Sequence[Curve], label: str) -> Figure:
    """Draw curves over epochs with bands.

    Args:
        found: In the order of drawing.
        label: Of the value axis.
    """
    figure, axes = _plot(WIDTH, 250, left=52, bottom=38)
    for curve in found:
        if any(low < high for low, high in zip(curve.low, curve.high, strict=True)):
            axes.fill_between(
                curve.epochs, curve.low, curve.high, color=curve.look.color, alpha=0.13, linewidth=0,
                gid=_gid(curve.look), clip_on=False,
            )  # fmt: skip
    for curve in found:
        axes.plot(
            curve.epochs, curve.mean, color=curve.look.color, linestyle=curve.look.line, linewidth=1.6,
            gid=_gid(curve.look), clip_on=False,
        )  # fmt: skip
        axes.plot(
            curve.epochs[-1:], curve.mean[-1:], color=curve.look.color, marker=curve.look.marker,
            markersize=_MARKER, gid=_gid(curve.look), clip_on=False,
        )  # fmt: skip
    _grid(axes, "y")
    axes.margins(x=0.03)
    axes.set_xlabel("epoch")
    axes.set_ylabel(one_line(label))
    _few_ticks(axes, "x", 6, whole=True)
    _few_ticks(axes, "y", 6)
    return figure


def critical_difference(diagram: CriticalDifference, of: Mapping[str, Look], width: float = 720) -> Figure:
    """Draw a critical-difference diagram (Demšar 2006, figure 1): average ranks, the best at the left.

    A bar joins methods that cannot be told apart.

    Args:
        diagram: With at least one method.
        of: The looks of its methods.
        width: Of the chart.
    """
    average = diagram.ranks.average
    names = list(average)
    short = labels(names)
    side = _margin(names, padding=58)
    left, right = side, width - side
    worst = len(names)
    half = (len(names) + 1) // 2
    bars = _columns(diagram, names)
    axis = 56.0
    first = axis + 20 + 9 * len(bars)
    figure, axes = _sheet(width, first + _ROW * half + 4)

    def at(rank: float) -> float:
        return left + (right - left) * (rank - 1) / max(worst - 1, 1)

    axes.plot([left, right], [axis, axis], color=INK, linewidth=1)
    for rank in range(1, worst + 1):
        axes.plot([at(rank)] * 2, [axis - 5, axis], color=INK, linewidth=1)
        if worst <= 15 or rank in (1, worst) or rank % 5 == 0:
            axes.text(at(rank), axis - 9, str(rank), ha="center", va="bottom")
    if math.isfinite(diagram.difference) and at(1 + diagram.difference) <= width:
        end = at(1 + diagram.difference)
        axes.plot([left, left, left, end, end, end], [18, 24, 21, 21, 18, 24], color=INK, linewidth=1)
        text = f"critical difference {diagram.difference:.2f}"
        axes.text(left, 14, text, ha="left", va="bottom", fontsize=FONT_SIZE - 1)
    for place, name in enumerate(names):
        best = place < half
        y = first + _ROW * (place if best else len(names) - 1 - place)
        look, x, edge = of[name], at(average[name]), (left - 12 if best else right + 12)
        gid = _gid(look)
        axes.plot([x, x, edge], [axis, y, y], color=look.color, linewidth=1, gid=gid)
        axes.plot([edge], [y], color=look.color, marker=look.marker, markersize=_MARKER, gid=gid)
        words = f"{short[name]}  {average[name]:.2f}" if best else f"{average[name]:.2f}  {short[name]}"
        axes.text(edge + (-8 if best else 8), y, words, ha="right" if best else "left", va="center", gid=gid)
    for column, (start, end) in enumerate(bars):
        y = axis + 10 + 9 * column
        ends = [at(average[names[start]]) - 4, at(average[names[end]]) + 4]
        axes.plot(ends, [y, y], color=INK, linewidth=4, solid_capstyle="butt")
    return figure


def ranks(diagram: CriticalDifference, of: Mapping[str, Look]) -> Figure:
    """Draw a critical-difference diagram that is narrow: a row per method, bars at the right.

    Args:
        diagram: With at least one method.
        of: The looks of its methods.
    """
    average = diagram.ranks.average
    names = list(average)
    bars = _columns(diagram, names)
    beside = 12 + 9 * len(bars)
    figure, axes = _plot(WIDTH, 72 + _ROW * len(names), left=_margin(names), bottom=38, right=beside, top=28)
    for row, name in enumerate(names):
        look = of[name]
        axes.plot(
            [average[name]], [row], color=look.color, marker=look.marker, markersize=_MARKER, gid=_gid(look),
            clip_on=False,
        )  # fmt: skip
    axes.set_yticks(range(len(names)), list(labels(names).values()), color=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(min(1.0, min(average.values())), max(len(names), *average.values(), 2))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    low, high = axes.get_xlim()
    if low + diagram.difference <= high:
        axes.plot([low, low + diagram.difference], [-0.9, -0.9], color=INK, linewidth=1, clip_on=False)
        text = f"critical difference {diagram.difference:.2f}"
        axes.text(low, -1.1, text, ha="left", va="bottom", fontsize=FONT_SIZE - 1)
    plot_width = WIDTH - _margin(names) - beside
    for column, (start, end) in enumerate(bars):
        x = high + (high - low) * (10 + 9 * column) / plot_width
        axes.plot(
            [x, x], [start - 0.3, end + 0.3], color=INK, linewidth=4, solid_capstyle="butt", clip_on=False
        )
    _grid(axes, "x")
    axes.set_xlabel("average rank (1 is best)")
    _few_ticks(axes, "x", 6, whole=True)
    return figure


def reach(values: Sequence[float], intervals: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the ends of an axis for values with intervals.

    Intervals of two or three seeds may be many times wider than all differences: they are cut then, so that values
    can be told apart.

    Args:
        values: At least one, finite.
        intervals: Of the values, some of them perhaps NaN.

    Example:
        >>> reach([0.9, 0.8], [(0.85, 0.95), (0.75, 0.85)])
        (0.74, 0.96)
        >>> low, high = reach([0.9, 0.8], [(-5.0, 7.0), (float("nan"), float("nan"))])
        >>> round(low, 3), round(high, 3)
        (0.465, 1.235)
    """
    known = [(low, high) for low, high in intervals if math.isfinite(low) and math.isfinite(high)]
    spread = max(values) - min(values)
    widths = sorted((high - low) / 2 for low, high in known)
    usual = widths[len(widths) // 2] if widths else 0.0
    least = abs(values[0]) * 0.01 or 0.01
    room = max(spread, min(usual, 3 * spread) if spread else usual, least)
    low = max(min([*values, *(low for low, _ in known)]), min(values) - room)
    high = min(max([*values, *(high for _, high in known)]), max(values) + room)
    edge = 0.05 * max(high - low, least)
    return round(low - edge, 12), round(high + edge, 12)


def beyond(intervals: Sequence[tuple[float, float]], ends: tuple[float, float]) -> bool:
    """Tell whether an interval goes on where the axis ends."""
    return any(low < ends[0] or high > ends[1] for low, high in intervals)


def _arrows(
    interval: tuple[float, float], ends: tuple[float, float], markers: str
) -> Iterator[tuple[str, float]]:
    """Yield marker and place of an arrow for each side on which an interval goes on beyond the axis."""
    if interval[0] < ends[0]:
        yield markers[0], ends[0]
    if interval[1] > ends[1]:
        yield markers[1], ends[1]


def labels(names: Iterable[str], length: int = _LABEL) -> dict[str, str]:
    """Return names for a chart: on one line, what is too long left out where they still differ.

    Example:
        >>> list(labels(["gradaug(n=3, alpha=0.8)+cutmix", "none"]).values())
        ['gradaug(n=3, ….8)+cutmix', 'none']
        >>> list(labels(["dropblock(p=0.1, block_size=3)", "dropblock(p=0.2, block_size=3)"], 20).values())
        ['dropblock(p=0.1…e=3)', 'dropblock(p=0.2…e=3)']
    """
    lines = {name: one_line(name) or "(no name)" for name in names}
    shortened = lines
    for tail in sorted(range(1, length - 1), key=lambda tail: abs(tail - length // 2 + 2)):
        shortened = {name: _without_middle(line, length, tail) for name, line in lines.items()}
        if len(set(shortened.values())) == len(set(lines.values())):
            break
    return shortened


def _without_middle(line: str, length: int, tail: int) -> str:
    return line if len(line) <= length else f"{line[: length - 1 - tail]}…{line[-tail:]}"


def _columns(diagram: CriticalDifference, names: Sequence[str]) -> list[tuple[int, int]]:
    """Return the first and last place of every group of methods that cannot be told apart."""
    return [(names.index(group[0]), names.index(group[-1])) for group in diagram.cliques]


def _margin(names: Iterable[str], padding: float = 12) -> float:
    return padding + _LETTER * 1.12 * max(map(len, labels(names).values()), default=0)


def _cost_ticks(low: float, high: float) -> list[float]:
    """Return round factors within a range, 1 first, that leave each other room on a logarithmic axis."""
    found = [1.0]
    for step in (1, 2, 5, 3, 1.5, 7, 1.2, 1.1, 1.05):
        for power in range(-4, 7):
            tick = round(step * 10.0**power, 9)
            apart = min(abs(math.log(tick / other)) for other in found)
            if low <= tick <= high and apart >= 0.15 * math.log(high / low):
                found.append(tick)
    return found


def _gid(look: Look) -> str:
    return f"series-{look.index}"


def _sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """Return axes over the whole figure whose units are pixels, y pointing down."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    return figure, axes


def _plot(
    width: float, height: float, *, left: float, bottom: float, right: float = 14, top: float = 8
) -> tuple[Figure, Axes]:
    """Return axes with margins in pixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    axes = figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelcolor=MUTED, width=0.8, length=3)
    for spine in axes.spines.values():
        spine.set_linewidth(0.8)
    return figure, axes


def _grid(axes: Axes, which: Any) -> None:
    axes.grid(axis=which, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _few_ticks(axes: Axes, which: Any, count: int, *, whole: bool = False) -> None:
    axes.locator_params(axis=which, nbins=count, **({"integer": True} if whole else {}))
