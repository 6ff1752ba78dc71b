"""YAML as suites are written: the scalars of YAML 1.2, no duplicate keys, and every value's line.

PyYAML by itself reads ``1e-3`` as a word and ``on`` as true, and lets a later key replace an earlier one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from regathlon_core.errors import UserError
from regathlon_core.notation import SCALARS

Path = tuple[str | int, ...]
"""Where a value stands: keys and list positions from the top."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  a PyYAML interface


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  a PyYAML interface

    def ignore_aliases(self, data: Any) -> bool:
        return True


_FIRST = {"bool": "tTfF", "null": ["~", "n", "N", ""], "int": "-+0123456789", "float": "-+.0123456789"}

for _class in (_Loader, _Dumper):
    for _tag, _pattern in SCALARS.items():
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, list(_FIRST[_tag]))
    _class.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"<<\Z"), ["<"])


@dataclass(frozen=True)
class Document:
    """A parsed file.

    Attributes:
        value: Mappings, lists and scalars.
        lines: Line number, from 1, of every key and list item.
        source: What messages call the file.
    """

    value: Any
    lines: Mapping[Path, int]
    source: str

    def where(self, path: Path) -> str:
        """Return ``file:line`` of a value, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.source}:{self.lines.get(path, 1)}"


def read(text: str, source: str) -> Document:
    """Parse YAML.

    Raises:
        UserError: It is no YAML, or a key stands twice; with file and line.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        lines: dict[Path, int] = {}
        if node is not None:
            _walk(node, (), lines, source)
        value = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        raise UserError(f"This is no valid YAML: {error.problem or error.context}.", where=where) from error
    except yaml.YAMLError as error:
        raise UserError(f"This is no valid YAML: {error}.", where=source) from error
    finally:
        loader.dispose()
    return Document(value, lines, source)


def scalar(text: str) -> Any:
    """Read one value.

    Example:
        >>> [scalar(text) for text in ("3", "1e-3", "true", "no", "[1, 2]", "null")]
        [3, 0.001, True, 'no', [1, 2], None]
    """
    return read(text, "value").value


def write(value: Any) -> str:
    r"""Return the YAML that ``read`` reads as the same value.

    Example:
        >>> write({"tasks": ["vision/digits"], "recipe": {"lr": 0.1}})
        'tasks: [vision/digits]\nrecipe: {lr: 0.1}\n'
    """
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True
    )
    return text


def _walk(node: yaml.Node, path: Path, lines: dict[Path, int], source: str) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            _walk(item, (*path, position), lines, source)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise UserError("Keys are plain words.", where=f"{source}:{line}")
            if key.value in seen:
                raise UserError(
                    f"The key {key.value!r} stands twice (first in line {seen[key.value]}). Keep one.",
                    where=f"{source}:{line}",
                )
            seen[key.value] = line
            lines[*path, key.value] = line
            _walk(value, (*path, key.value), lines, source)
