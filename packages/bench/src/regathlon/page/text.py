"""Any text as text: what is no character, or would act on its surroundings, is shown as a replacement."""

from __future__ import annotations

import json
import re
from typing import Any

from markupsafe import Markup

from regathlon.files import finite

_UNSHOWN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]"
)
_ANSI = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")


def plain(text: str) -> str:
    r"""Return text without control characters, lone surrogates and marks that reorder what follows.

    Example:
        >>> plain("a\x00b \x1b[31mred\x1b[0m \u202egnp.exe")
        'a�b red �gnp.exe'
    """
    return _UNSHOWN.sub("\ufffd", _ANSI.sub("", text))


def one_line(text: str) -> str:
    r"""Return plain text on one line.

    Example:
        >>> one_line("two\nlines")
        'two lines'
    """
    return " ".join(plain(text).split())


def shown(value: Any) -> Any:
    """Return what a template writes for a value: strings are made plain, markup stays what it is."""
    if value is None:
        return ""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def breaks(text: str) -> Markup:
    """Return text that may be broken after its brackets, commas and signs.

    Example:
        >>> print(breaks("dropblock(p=0.1, <b>)"))
        dropblock(<wbr>p=0.1, &lt;b&gt;)
    """
    parts = re.split(r"(?<=[(+,/])(?=\S)", plain(text))
    return Markup("<wbr>").join(parts)


def json_for_script(value: Any) -> Markup:
    r"""Return JSON for a ``script`` element: it cannot end it, and has only ASCII in it.

    Example:
        >>> print(json_for_script({"name": "</script><b>é"}))
        {"name":"\u003c/script\u003e\u003cb\u003e\u00e9"}
    """
    text = json.dumps(finite(value), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
