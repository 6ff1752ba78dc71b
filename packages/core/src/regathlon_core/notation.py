"""How declarations are written and read back: ``name(key=value, ...)``, joined by ``+``."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from regathlon_core.errors import UserError, unknown
from regathlon_core.settings import Declaration

D = TypeVar("D", bound=Declaration)

SCALARS: Mapping[str, re.Pattern[str]] = types.MappingProxyType(
    {
        "bool": re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"),
        "null": re.compile(r"(?:~|null|Null|NULL|)\Z"),
        "int": re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z"),
        "float": re.compile(
            r"(?:[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))"
            r"|\.(?:nan|NaN|NAN))\Z"
        ),
    }
)
"""What text without quotes is more than a word: the scalars of YAML 1.2."""

_READERS: Mapping[str, Callable[[str], Any]] = types.MappingProxyType(
    {
        "bool": lambda text: text.lower() == "true",
        "null": lambda text: None,
        "int": int,
        "float": lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
    }
)
_NAME = re.compile(r"[A-Za-z_][\w./-]*")
_BARE = re.compile(r"[^\s,()\[\]'\"=]+")


class Word(str):
    """A value written without quotes: a number, true, false, null or a word, as the setting wants."""

    __slots__ = ()

    def read(self) -> Any:
        """Return it as the scalar that it looks like.

        Example:
            >>> [Word(text).read() for text in ("3", "1e-3", "true", "no", "null")]
            [3, 0.001, True, 'no', None]
        """
        for kind, pattern in SCALARS.items():
            if pattern.match(self):
                return _READERS[kind](self)
        return str(self)


@dataclass(frozen=True)
class Call:
    """One ``name(key=value, ...)``, not yet looked up.

    Attributes:
        name: What is named.
        arguments: Values by key: ``Word``, ``str`` where quoted, or lists of them.
        text: As it was written.
    """

    name: str
    arguments: Mapping[str, Any]
    text: str

    def values(self, cls: type | None = None) -> dict[str, Any]:
        """Return scalars and tuples of them by key, as the fields of a dataclass want them: a field of text takes any word.

        Example:
            >>> parse_one("reldrop(p=0.2, where=[layer3, 'a.*'])", kind="regularizer").values()
            {'p': 0.2, 'where': ('layer3', 'a.*')}
        """
        hints = typing.get_type_hints(cls) if cls is not None else {}
        return {key: _read(value, hints.get(key)) for key, value in self.arguments.items()}


def parse(text: str, *, kind: str, where: str | None = None) -> tuple[Call, ...]:
    """Parse one or more calls joined by ``+``.

    Args:
        text: What was written.
        kind: What it names, for messages.
        where: Where it was written, for messages.

    Raises:
        UserError: It does not follow the grammar.

    Example:
        >>> calls = parse("gradaug(n=3, widths=[0.8, 1])+cutmix", kind="regularizer")
        >>> [(call.name, dict(call.arguments)) for call in calls]
        [('gradaug', {'n': '3', 'widths': ['0.8', '1']}), ('cutmix', {})]
    """
    return _Parser(text, kind, where).calls()


def parse_one(text: str, *, kind: str, where: str | None = None) -> Call:
    """Parse exactly one call: models and tasks do not compose."""
    calls = parse(text, kind=kind, where=where)
    if len(calls) > 1:
        raise UserError(
            f"{text!r} joins {len(calls)} {kind}s by '+'; only regularizers compose.", where=where
        )
    return calls[0]


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
    call = parse_one(text, kind=what)
    by_name = {kind.name: kind for kind in kinds}
    if call.name not in by_name:
        raise unknown(what, call.name, by_name)
    kind = by_name[call.name]
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    values = call.values(kind)
    for key, value in values.items():
        if key not in names:
            raise unknown(f"setting of {call.name}", key, names)
        if not _fits(value, hints[key]):
            raise UserError(f"{call.name}: {key} cannot be {value!r}.")
    return kind(**values)


def split_list(text: str) -> list[str]:
    """Split ``a(b=1, c=2), d`` at the commas outside of brackets and quotes; surrounding quotes go.

    Example:
        >>> split_list('none, dropblock(p=0.1, block_size=3), "cutmix"')
        ['none', 'dropblock(p=0.1, block_size=3)', 'cutmix']
    """
    items, depth, quote, start = [], 0, "", 0
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "([":
            depth += 1
        elif character in ")]":
            depth -= 1
        elif character == "," and depth == 0:
            items.append(text[start:position])
            start = position + 1
    items.append(text[start:])
    return [_unquote(item.strip()) for item in items if item.strip()]


def _unquote(text: str) -> str:
    whole = len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and text[0] not in text[1:-1]
    return text[1:-1] if whole else text


def _read(value: Any, hint: Any) -> Any:
    if isinstance(value, list):
        of = typing.get_args(hint)
        return tuple(_read(item, of[0] if of else None) for item in value)
    if isinstance(value, Word):
        return str(value) if hint is str else value.read()
    return value


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


class _Parser:
    def __init__(self, text: str, kind: str, where: str | None) -> None:
        self.text, self.kind, self.where, self.at = text, kind, where, 0

    def calls(self) -> tuple[Call, ...]:
        calls = [self.call()]
        while self.take("+"):
            calls.append(self.call())
        if self.at < len(self.text):
            raise self.error(f"did not expect {self.text[self.at :]!r}")
        return tuple(calls)

    def call(self) -> Call:
        self.space()
        start = self.at
        name = self.match(_NAME, f"a {self.kind}'s name")
        arguments: dict[str, Any] = {}
        if self.take("("):
            while not self.take(")"):
                if arguments and not self.take(","):
                    raise self.error("expected ',' or ')'")
                self.space()
                key = self.match(_NAME, "a setting as key=value")
                if not self.take("="):
                    raise self.error(f"settings are written key=value; {key!r} has no '='")
                if key in arguments:
                    raise self.error(f"{key!r} stands twice")
                arguments[key] = self.value()
        text = self.text[start : self.at].strip()
        self.space()
        return Call(name, arguments, text)

    def value(self) -> Any:
        self.space()
        quote = self.peek()
        if quote in ("'", '"'):
            end = self.text.find(quote, self.at + 1)
            if end < 0:
                raise self.error(f"the quote {quote} is not closed")
            value = self.text[self.at + 1 : end]
            self.at = end + 1
            return value
        if self.take("["):
            items: list[Any] = []
            while not self.take("]"):
                if items and not self.take(","):
                    raise self.error("expected ',' or ']'")
                if self.take("]"):
                    break
                items.append(self.value())
            return items
        return Word(self.match(_BARE, "a value"))

    def match(self, pattern: re.Pattern[str], wanted: str) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            rest = self.text[self.at :]
            raise self.error(f"expected {wanted}" + (f" before {rest!r}" if rest else " at the end"))
        self.at = found.end()
        return found.group()

    def take(self, character: str) -> bool:
        self.space()
        if self.peek() != character:
            return False
        self.at += 1
        return True

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def space(self) -> None:
        while self.peek().isspace():
            self.at += 1

    def error(self, problem: str) -> UserError:
        advice = ""
        if self.text.count("(") != self.text.count(")"):
            advice = ' In a list in YAML, a value with commas needs quotes: "dropblock(p=0.1, block_size=3)".'
        return UserError(
            f"The {self.kind} {self.text!r} cannot be read: {problem}. "
            f"The form is name(key=value, ...).{advice}",
            where=self.where,
        )
