"""How a suite writes regularizers, models and tasks: ``name(key=value, ...)``, joined by ``+``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regathlon import yaml_text
from regathlon_core.errors import UserError

_NAME = re.compile(r"[A-Za-z_][\w./-]*")
_BARE = re.compile(r"[^\s,()\[\]'\"=]+")


class Word(str):
    """A value written without quotes: a number, true, false, null or a word, as the setting wants."""

    __slots__ = ()

    def read(self) -> Any:
        """Return it as the scalar that it looks like."""
        return yaml_text.scalar(self)


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
