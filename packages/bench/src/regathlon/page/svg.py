"""Matplotlib's SVG made fit for a page: themed by CSS variables, no inline styles, no foreign ids, small."""

from __future__ import annotations

import io
import logging
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from regathlon.page.looks import INK, PAPER, variable
from regathlon.page.text import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FONT_SIZE = 11.0
"""Of charts, in pixels."""

_HREF = "{http://www.w3.org/1999/xlink}href"
_KEPT = ("fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "opacity")
_TEXT = ("font-size", "font-weight", "font-style", "text-anchor")
_NUMBER = re.compile(r"-?\d+\.\d+")
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "regathlon",
    "text.parse_math": False,
    "font.size": FONT_SIZE,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.unicode_minus": True,
    "axes.formatter.useoffset": False,
    "lines.markeredgecolor": PAPER,
}


class Charts:
    """Turns figures into SVG whose styles are classes of one style sheet.

    Attributes:
        drawn: How many figures there were.
    """

    def __init__(self) -> None:
        self.drawn = 0
        self._classes: dict[str, str] = {}

    @property
    def style_sheet(self) -> str:
        """CSS of all classes used so far."""
        return "\n".join(f".{name}{{{style}}}" for style, name in self._classes.items())

    def svg(self, draw: Callable[[], Figure], label: str) -> Markup:
        """Draw a figure and return it as an ``svg`` element.

        Args:
            draw: Returns the figure; called with this page's settings of matplotlib, whatever the user's.
                Artists whose ``gid`` is ``"series-N"`` get the attribute ``data-series="N"``.
            label: What the chart shows, for those who cannot see it.
        """
        self.drawn += 1
        out = io.StringIO()
        with _settings():
            metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            draw().savefig(out, format="svg", metadata=metadata)
        root = ET.fromstring(out.getvalue())
        width, height = (float(root.attrib[side].removesuffix("pt")) for side in ("width", "height"))
        clean = ET.Element(
            "svg", {"viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}", "height": f"{height:g}"}
        )
        clean.attrib |= {"role": "img", "aria-label": one_line(label)}
        referenced = {
            value[1:] for element in root.iter() for key, value in element.attrib.items() if key == _HREF
        }
        for child in root:
            clean.extend(self._clean(child, referenced))
        return Markup(ET.tostring(clean, encoding="unicode"))

    def _clean(self, element: ET.Element, referenced: set[str]) -> Iterator[ET.Element]:
        tag = element.tag.rpartition("}")[2]
        if tag in ("metadata", "style", "clipPath"):
            return
        kept = ET.Element(tag, dict(self._attributes(element, tag, referenced)))
        kept.text = (element.text or "") if tag in ("text", "tspan") else None
        for child in element:
            kept.extend(self._clean(child, referenced))
        if tag in ("g", "defs") and not len(kept):
            return
        if tag == "g" and not kept.attrib:
            yield from kept
        else:
            yield kept

    def _attributes(self, element: ET.Element, tag: str, referenced: set[str]) -> Iterator[tuple[str, str]]:
        for name, value in element.attrib.items():
            if name == "id":
                if value.startswith("series-"):
                    yield "data-series", value.removeprefix("series-")
                elif value in referenced:
                    yield "id", self._own(value)
            elif name == _HREF:
                yield "href", f"#{self._own(value[1:])}"
            elif name == "style":
                style = _css(value, (*_KEPT, *_TEXT) if tag == "text" else _KEPT)
                if style:
                    yield "class", self._classes.setdefault(style, f"k{len(self._classes)}")
            elif name == "transform" and value.startswith("rotate(-0 "):
                continue
            elif name == "d":
                yield name, _rounded(" ".join(value.split()))
            elif name in ("x", "y", "width", "height", "transform", "points"):
                yield name, _rounded(value)

    def _own(self, identity: str) -> str:
        return f"f{self.drawn}-{identity}"


def _css(style: str, kept: tuple[str, ...]) -> str:
    """Return a style with only what is kept, and variables in place of key colours."""
    declarations = []
    for declaration in style.split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name in kept:
            own = variable(value)
            declarations.append(f"{name}:{f'var({own})' if own else value}")
    return ";".join(declarations)


def _rounded(text: str) -> str:
    """Return a list of numbers to a tenth of a pixel.

    Example:
        >>> _rounded("M 35.345455 -86.4 L 1.02 0")
        'M 35.3 -86.4 L 1 0'
    """
    return _NUMBER.sub(lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), text)


@contextmanager
def _settings() -> Iterator[None]:
    import matplotlib

    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of font caches
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the browser's fonts are used
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield
