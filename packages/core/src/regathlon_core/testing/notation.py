"""Reading ``name(key=value, ...)`` back, as plainly as it is written."""

from __future__ import annotations

from typing import Any

_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}


def parsed(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the settings of a declaration that was written with ``str``.

    Example:
        >>> parsed("dropblock(p=0.2, where=[layer3, 'layer4.*'], adaptive=true)")
        ('dropblock', {'p': 0.2, 'where': ('layer3', 'layer4.*'), 'adaptive': True})
    """
    name, _, inside = text.partition("(")
    pairs = (part.partition("=") for part in _split(inside.removesuffix(")")))
    return name, {key.strip(): _value(value.strip()) for key, _, value in pairs}


def _split(text: str) -> list[str]:
    """Split at the commas outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        else:
            depth += (character == "[") - (character == "]")
        if character == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part.strip()]


def _value(text: str) -> Any:
    if text.startswith("["):
        return tuple(_value(part.strip()) for part in _split(text[1:-1]))
    if text[:1] in ("'", '"'):
        return text[1:-1]
    if text in _WORDS:
        return _WORDS[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
