"""Every setting of a trial with its origin: the suite's file, the task's recipe, a default, a manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from regathlon import yaml_text
from regathlon.leaderboard import flat
from regathlon_core.errors import UserError
from regathlon_core.notation import Call, Word, parse, parse_one

SUITE = "suite"
DEFAULT = "default"
RECIPE = "the task's own recipe"
MANIFEST = "manifest of the data set"
ENGINE = "the engine"
GRID = "the task's grid"
FIRST_MODEL = "the task's first model"


class Setting(NamedTuple):
    """One setting of a trial.

    Attributes:
        part: What it belongs to: task, data set, model, a regularizer, recipe, trial.
        key: Its name.
        value: In words.
        origin: Who decided it.
    """

    part: str
    key: str
    value: str
    origin: str


def read_suite(file: Path) -> Mapping[str, Any] | None:
    """Return a run's ``suite.yaml`` as written; None where it is missing or damaged.

    What ``--set`` changed is in that file too, so such values have the suite as their origin.
    """
    try:
        found = yaml_text.read(file.read_text(encoding="utf-8"), file.name).value
    except (OSError, UnicodeError, UserError):
        return None
    return found if isinstance(found, dict) else None


def settings(cell: Mapping[str, Any], suite: Mapping[str, Any] | None) -> tuple[Setting, ...]:
    """Return all settings of a cell of the plan, with their origins; none for a cell without a trial.

    Args:
        cell: As in ``plan.json``.
        suite: The suite's file as written; None where that is unknown, and then so are origins.

    Example:
        >>> cell = {
        ...     "task": "toy",
        ...     "regularizer": "none",
        ...     "description": {"recipe": {"lr": 0.1, "momentum": 0.9}, "seed": 0},
        ... }
        >>> for setting in settings(cell, {"recipe": {"lr": 0.1}}):
        ...     print(*setting, sep=" | ")
        recipe | lr | 0.1 | suite: recipe.lr
        recipe | momentum | 0.9 | the task's own recipe
        trial | seed | 0 | suite: seeds
    """
    description = cell.get("description")
    if not isinstance(description, Mapping):
        return ()
    written = _Suite(suite or {}, cell)
    found = list(_settings(cell, description, written))
    if suite is None:
        found = [setting._replace(origin="not known: suite.yaml cannot be read") for setting in found]
    return tuple(found)


def _settings(cell: Mapping[str, Any], description: Mapping[str, Any], written: _Suite) -> Iterator[Setting]:
    for part, where in (("task", "tasks"), ("model", "models")):
        yield from _declared(part, description.get(part), written.call(part), where, written)
    dataset = description.get("dataset")
    if isinstance(dataset, Mapping):
        yield Setting(
            "data set", str(dataset.get("name")), f"version {words(dataset.get('version'))}", MANIFEST
        )
    calls = {call.name: call for call in _calls(cell.get("regularizer"), "regularizer")}
    regularizers = description.get("regularizer")
    for declared in regularizers if isinstance(regularizers, Sequence) else ():
        name = declared.get("name") if isinstance(declared, Mapping) else None
        yield from _declared("regularizer", declared, calls.get(str(name)), "regularizers", written)
    recipe = description.get("recipe")
    for key, value in flat(recipe).items() if isinstance(recipe, Mapping) else ():
        if value is None and key.startswith("budget."):
            continue  # the kinds of budget that were not chosen
        yield Setting("recipe", key, words(value), written.recipe(key))
    if "protocol" in description:
        yield Setting("trial", "protocol", words(description["protocol"]), ENGINE)
    yield Setting("trial", "seed", words(description.get("seed")), f"{SUITE}: seeds")


def _declared(part: str, declared: Any, call: Call | None, where: str, written: _Suite) -> Iterator[Setting]:
    """Yield a task, model or regularizer and its settings."""
    if not isinstance(declared, Mapping):
        return
    name = str(declared.get("name"))
    chosen = written.choice(part)
    yield Setting(part, name, f"version {words(declared.get('version'))}", chosen or f"{SUITE}: {where}")
    values = declared.get("settings")
    for key, value in values.items() if isinstance(values, Mapping) else ():
        origin = DEFAULT
        if call is not None and key in call.arguments:
            origin = GRID if part == "task" and not written.names_task(name, key) else f"{SUITE}: {where}"
        yield Setting(f"{part} {name}", str(key), words(value), origin)


class _Suite:
    """What a suite's file says about one cell."""

    def __init__(self, raw: Mapping[str, Any], cell: Mapping[str, Any]) -> None:
        self._raw, self._cell = raw, cell
        description = cell.get("description")
        task = description.get("task") if isinstance(description, Mapping) else None
        self._task: Mapping[str, Any] = task if isinstance(task, Mapping) else {}

    def call(self, part: str) -> Call | None:
        """Return a task or model as the plan writes it."""
        return next(iter(_calls(self._cell.get(part), part)), None)

    def choice(self, part: str) -> str | None:
        """Return who chose a model, where the suite did not."""
        if part != "model":
            return None
        return None if any(self._matching("models")) else FIRST_MODEL

    def names_task(self, name: str, key: str) -> bool:
        """Tell whether the suite writes a task with this setting."""
        listed = self._raw.get("tasks")
        return any(
            call.name == name and key in call.arguments
            for text in (listed if isinstance(listed, list) else ())
            for call in _calls(text, "task")
        )

    def recipe(self, key: str) -> str:
        """Return the origin of a value of the recipe; the narrower place wins, as it does in a suite."""
        first, _, rest = key.partition(".")
        group, name = ("budget", rest) if first == "budget" else ("recipe", key)
        for pattern, values in self._matching(f"{group}s"):
            if isinstance(values, Mapping) and name in values:
                return f"{SUITE}: {group}s.{pattern}.{name}"
        values = self._raw.get(group)
        return f"{SUITE}: {group}.{name}" if isinstance(values, Mapping) and name in values else RECIPE

    def _matching(self, group: str) -> Iterator[tuple[str, Any]]:
        entries = self._raw.get(group)
        values = self._task.get("settings")
        own = values if isinstance(values, Mapping) else {}
        for pattern, value in reversed(list(entries.items())) if isinstance(entries, Mapping) else ():
            for call in _calls(pattern, "task"):
                same = all(words(own.get(key)) == _read(given) for key, given in call.arguments.items())
                if call.name == self._task.get("name") and same:
                    yield str(pattern), value


def _calls(text: object, kind: str) -> tuple[Call, ...]:
    """Parse what a plan or suite writes; nothing where it cannot be parsed."""
    if not isinstance(text, str):
        return ()
    try:
        return parse(text, kind=kind) if kind == "regularizer" else (parse_one(text, kind=kind),)
    except UserError:
        return ()


def _read(given: object) -> str:
    return words(given.read() if isinstance(given, Word) else given)


def words(value: object) -> str:
    """Write a value.

    Example:
        >>> words(0.1), words(None), words(True), words((0.5, 0.75)), words([])
        ('0.1', 'none', 'yes', '0.5, 0.75', 'none')
    """
    if value is None or value == [] or value == ():
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
