"""``--set KEY=VALUE``: changes to a suite from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from regathlon import yaml_text
from regathlon.validation import unknown_key
from regathlon_core.errors import UserError
from regathlon_core.notation import split_list


def override(raw: dict[str, Any], text: str, keys: Sequence[str], places: dict[yaml_text.Path, str]) -> None:
    """Change a suite's raw mapping as one ``--set KEY=VALUE`` says.

    Args:
        raw: The mapping; changed in place.
        text: ``KEY=VALUE``; the key has dots, the value is YAML, in which lists of names need no quotes.
        keys: The keys that a suite has.
        places: Gets the option as the place of what it set, for messages.

    Raises:
        UserError: It has no such form, or a suite has no such key.
    """
    key, equals, value_text = text.partition("=")
    where = f"--set {key}"
    if not equals or not key:
        raise UserError(f"--set takes KEY=VALUE, such as seeds=5 or recipe.lr=0.01; got {text!r}.")
    path = _split_key(key)
    if path[0] not in keys:
        raise unknown_key(path[0], keys, what="A suite", where=where)
    value_text = value_text.strip()
    if (
        path[0] in ("tasks", "regularizers", "models")
        and value_text.startswith("[")
        and value_text.endswith("]")
    ):
        value: Any = split_list(value_text[1:-1])
    else:
        try:
            value = yaml_text.scalar(value_text)
        except UserError as error:
            raise UserError(f"{value_text!r} is no value: {error.message}", where=where) from error
    _forget_narrower(raw, path)
    at: dict[str, Any] = raw
    for step in path[:-1]:
        if not isinstance(at.get(step), dict):
            at[step] = {}
        at = at[step]
    if (path[0], len(path)) in (("budget", 2), ("budgets", 3)):
        at.clear()  # epochs and steps exclude each other: the new one replaces the old one
    at[path[-1]] = value
    for known in [known for known in places if known[: len(path)] == path]:
        del places[known]
    places[path] = where


def _split_key(key: str) -> tuple[str, ...]:
    """Split at the dots outside of brackets, as tasks may have settings: ``budgets.dg/x(p=0.5).epochs``."""
    parts, depth = [""], 0
    for character in key:
        depth += (character in "([") - (character in ")]")
        if character == "." and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return tuple(parts)


def _forget_narrower(raw: dict[str, Any], path: tuple[str, ...]) -> None:
    """Let what ``--set`` says for all tasks also replace what the file says for single ones."""
    if path[0] == "budget":
        raw.pop("budgets", None)
    if path[0] == "recipe" and isinstance(raw.get("recipes"), dict):
        for recipe in raw["recipes"].values():
            if isinstance(recipe, dict):
                recipe.clear() if len(path) == 1 else recipe.pop(path[1], None)
