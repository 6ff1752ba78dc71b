"""How a regularizer looks in every chart and table: a colour, a marker and a dash, so that no reader needs colour.

Charts are drawn in key colours, which stand for CSS variables: the same picture is then light, dark or printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

INK, MUTED, GRID, PAPER = "#000001", "#000002", "#000003", "#000004"
"""Key colours: text and axes, lesser text, grid lines, background."""

VARIABLES: Mapping[str, str] = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"}
"""The CSS variables of the key colours that are no series'."""

COLORS = 7
"""Of series, after Okabe and Ito; the style sheet has a light and a dark tone of each."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (5, 2),
    (1.5, 1.5),
    (6, 2, 1.5, 2),
    (3, 1),
    (8, 3, 3, 3),
    (1, 3),
)


@dataclass(frozen=True)
class Look:
    """Of one series.

    Attributes:
        index: Its number on the page.
        color: Its key colour.
        marker: In matplotlib's letters.
        dash: Lengths of strokes and gaps in pixels; empty for a solid line.
    """

    index: int
    color: str
    marker: str
    dash: tuple[float, ...]

    @property
    def line(self) -> tuple[float, tuple[float, ...] | None]:
        """The dash as matplotlib wants it."""
        return (0, self.dash or None)


def looks(names: Iterable[str], baseline: str | None = None) -> dict[str, Look]:
    """Give every name a look; the baseline's is the colour of text.

    Colour, marker and dash together repeat after 49 names.

    Args:
        names: In the order of the page.
        baseline: The name that others are held against.

    Example:
        >>> found = looks(["none", "cutmix", "mixup"], baseline="none")
        >>> [(look.index, look.color, look.marker) for look in found.values()]
        [(0, '#000001', 'o'), (1, '#000100', 's'), (2, '#000101', '^')]
    """
    found: dict[str, Look] = {}
    others = 0
    for index, name in enumerate(dict.fromkeys(names)):
        if name == baseline:
            found[name] = Look(index, INK, "o", ())
            continue
        color, turn = others % COLORS, others // COLORS
        marker = _MARKERS[(color + 1 + turn) % len(_MARKERS)]
        found[name] = Look(index, f"#0001{color:02x}", marker, _DASHES[turn % len(_DASHES)])
        others += 1
    return found


def variable(color: str) -> str | None:
    """Return the CSS variable that a key colour stands for; None for any other colour.

    Example:
        >>> variable("#000102"), variable("#000001"), variable("#ffffff")
        ('--c2', '--ink', None)
    """
    if color in VARIABLES:
        return VARIABLES[color]
    return f"--c{int(color[5:], 16)}" if color.startswith("#0001") and len(color) == 7 else None
