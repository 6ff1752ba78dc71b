"""Settings from what a user wrote: pydantic checks the types, the declarations check the ranges.

Every complaint is one ``UserError`` that says what was wrong, what is right, and the nearest valid name.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import pydantic

from regathlon_core.errors import UserError, nearest
from regathlon_core.notation import Call

T = TypeVar("T")

_WANTED: Mapping[str, str] = {
    "bool_type": "true or false",
    "dict_type": "a mapping, {key: value}",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list, [a, b]",
    "model_type": "a mapping, {key: value}",
    "none_required": "null",
    "string_type": "a word",
    "tuple_type": "a list, [a, b]",
}


def build(cls: type[T], values: Mapping[str, Any], *, what: str, where: str | None = None) -> T:
    """Return a frozen dataclass from values by name; what is left out keeps its default.

    Args:
        cls: The dataclass.
        values: Bools, numbers, strings, None and lists of them.
        what: What is being set, for messages (``"dropblock"``).
        where: Where it was written.

    Raises:
        UserError: An unknown key, a wrong type, or a value out of range.

    Example:
        >>> from regathlon_core.recipe import Budget
        >>> build(Budget, {"epochs": 3}, what="budget").epochs
        3
    """
    checked = check(cls, values, what=what, where=where)
    try:
        return cls(**checked)
    except UserError as error:
        raise UserError(f"{what}: {error.message}", where=error.where or where) from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{what}: {error}", where=where) from error


def check(
    cls: type,
    values: Mapping[str, Any],
    *,
    what: str,
    where: str | None = None,
    place: Callable[[str], str] | None = None,
) -> dict[str, Any]:
    """Return the given values with their types checked, and no defaults: for settings that change others.

    Args:
        cls: The dataclass that the values belong to.
        values: Values by key.
        what: What is being set.
        where: Where it was written.
        place: Finds the place of one key, where that is known better.
    """

    def at(key: str) -> str | None:
        return place(key) if place is not None else where

    names = [field.name for field in dataclasses.fields(cls)]
    for key in values:
        if key not in names:
            raise unknown_key(key, names, what=what, where=at(key))
    try:
        model = _model(cls).model_validate_json(json.dumps(dict(values)))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0])
        raise UserError(explain(first, f"{what}: {key}", values.get(key)), where=at(key)) from error
    return {key: getattr(model, key) for key in values}


def settings(cls: type[T], call: Call, *, where: str | None = None) -> T:
    """Return a declaration's settings from a parsed ``name(key=value, ...)``."""
    return build(cls, call.values(cls), what=call.name, where=where)


def unknown_key(key: str, names: Iterable[str], *, what: str, where: str | None) -> UserError:
    """Return the error for a key that does not exist, with the nearest ones."""
    names = list(names)
    near = nearest(key, names)
    if near:
        hint = f"Did you mean {' or '.join(repr(name) for name in near)}?"
    elif names:
        hint = f"Its keys: {', '.join(names)}."
    else:
        hint = "It has no settings."
    return UserError(f"{what} has no key {key!r}. {hint}", where=where)


def explain(error: Mapping[str, Any], what: str, value: Any) -> str:
    """Return one complaint of pydantic's in words."""
    given = error.get("input", value)
    kind = str(error["type"])
    if kind == "literal_error":
        expected = str(error["ctx"]["expected"])
        near = nearest(
            str(given), [choice.strip(" '") for choice in expected.replace(" or ", ", ").split(",")]
        )
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"{what} must be {expected}, not {given!r}.{hint}"
    if kind == "missing":
        return f"{what} is required and missing."
    wanted = _WANTED.get(kind)
    if wanted is None:
        return f"{what}: {error['msg']} (got {given!r})."
    return f"{what} must be {wanted}, not {given!r}."


@functools.cache
def _model(cls: type) -> type[pydantic.BaseModel]:
    """Return a pydantic model of a dataclass's fields: strict, except that JSON's lists may be tuples."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: dict[str, Any] = {field.name: (hints[field.name], None) for field in dataclasses.fields(cls)}
    config = pydantic.ConfigDict(extra="forbid", strict=True, protected_namespaces=())
    return pydantic.create_model(cls.__name__, __config__=config, **fields)
