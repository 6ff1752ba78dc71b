"""Reading ``name(key=value, ...)`` back, as plainly as it is written."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from regathlon_core.errors import UserError, unknown
from regathlon_core.settings import Declaration

D = TypeVar("D", bound=Declaration)

_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}


def parsed(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the settings of a declaration that was written with ``str``.

    Raises:
        UserError: It is not written so.

    Example:
        >>> parsed("dropblock(p=0.2, where=[layer3, 'layer4.*'], adaptive=true)")
        ('dropblock', {'p': 0.2, 'where': ('layer3', 'layer4.*'), 'adaptive': True})
    """
    name, bracket, inside = text.strip().partition("(")
    pairs = [part.partition("=") for part in _split(inside.removesuffix(")"))]
    closed = inside.endswith(")") if bracket else True
    if not (name and closed and all(key.strip() and sign for key, sign, _ in pairs)):
        raise UserError(f"{text!r} is not written name(key=value, ...).")
    return name.strip(), {key.strip(): _value(value.strip()) for key, _, value in pairs}


def declared(text: str, kinds: Iterable[type[D]], *, what: str) -> D:
    """Return the declaration that a text names, with the settings that it gives.

    Args:
        text: As it was written.
        kinds: The declarations to choose from.
        what: What it is, for messages (``"model"``).

    Raises:
        UserError: It is none of them, or it has no such setting; the message names the nearest.

    Example:
        >>> from regathlon_core import DropBlockSettings, DropoutSettings
        >>> declared("dropblock(p=0.2)", (DropBlockSettings, DropoutSettings), what="regularizer").p
        0.2
    """
    name, values = parsed(text)
    by_name = {kind.name: kind for kind in kinds}
    if name not in by_name:
        raise unknown(what, name, by_name)
    kind = by_name[name]
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    for key, value in values.items():
        if key not in names:
            raise unknown(f"setting of {name}", key, names)
        if not _fits(value, hints[key]):
            raise UserError(f"{name}: {key} cannot be {value!r}.")
    return kind(**values)


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is typing.Literal:
        return value in parts
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, parts[0]) for item in value)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)


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
