"""Suite files: found by name or path, changed by ``--set``, and checked down to the last key."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

from regathlon import plugins, yaml_text
from regathlon.overrides import override
from regathlon.suite import Composition, Exclude, MissingTask, Pattern, Suite, resolve_model
from regathlon.validation import build, check, explain, settings, unknown_key
from regathlon_core.errors import UserError, unknown
from regathlon_core.notation import Call, parse, parse_one
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.settings import EvaluationSettings, Selection, TaskSettings, check_composition


class _File(pydantic.BaseModel):
    """The outer form of a suite file."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    tasks: list[str]
    regularizers: list[str]
    title: str = ""
    description: str = ""
    models: dict[str, list[str]] = {}
    seeds: Any = 3
    budget: dict[str, Any] = {}
    budgets: dict[str, dict[str, Any]] = {}
    recipe: dict[str, Any] = {}
    recipes: dict[str, dict[str, Any]] = {}
    exclude: list[dict[str, Any]] = []
    selection: Selection = "last"
    evaluations: list[str] = []


KEYS: tuple[str, ...] = tuple(_File.model_fields)


def load_suite(source: str | Path, overrides: Sequence[str] = (), *, name: str | None = None) -> Suite:
    """Read, override and validate a suite.

    Args:
        source: An installed suite's name, the path of a YAML file, or a run directory.
        overrides: ``KEY=VALUE`` each, as ``--set`` takes them.
        name: What to call it; None for the file's name.

    Raises:
        UserError: The first thing that is wrong with it, with file and line.
    """
    path = find_suite(str(source))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The suite {path} cannot be read: {error}.") from error
    document = yaml_text.read(text, str(path) if _is_path(str(source)) else path.name)
    if not isinstance(document.value, dict):
        raise UserError(f"A suite is a mapping with the keys {', '.join(KEYS)}.", where=document.source)
    raw = copy.deepcopy(document.value)
    places: dict[yaml_text.Path, str] = {}
    for change in overrides:
        override(raw, change, KEYS, places)
    written = {path[0] for path in places}
    if "budget" in written and "budgets" not in written:
        raw.pop("budgets", None)  # what the command line says holds for every task
    return _Validator(name or path.stem, raw, document, places).suite()


def find_suite(name: str) -> Path:
    """Return the file of a suite.

    Raises:
        UserError: There is none; the message names the nearest.
    """
    if _is_path(name):
        path = Path(name)
        if path.is_dir() and (path / "suite.yaml").is_file():
            return path / "suite.yaml"
        if not path.is_file():
            raise UserError(f"There is no suite file {name}.")
        return path
    files = plugins.suite_files()
    if name not in files:
        raise unknown("suite", name, files, listing="regathlon list suites")
    return files[name]


def _is_path(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) or "/" in name or "\\" in name or Path(name).is_dir()


class _Validator:
    def __init__(
        self, name: str, raw: dict[str, Any], document: yaml_text.Document, places: dict[yaml_text.Path, str]
    ) -> None:
        self.name, self.raw, self.document, self.places = name, raw, document, places

    def where(self, *path: str | int) -> str:
        """Return where a value was written: the option that set it, or file and line."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return self.document.where(path)

    def suite(self) -> Suite:
        for key in self.raw:
            if key not in KEYS:
                raise unknown_key(str(key), KEYS, what="A suite", where=self.where(key))
        file = self.outer_form()
        for key in ("tasks", "regularizers"):
            if not getattr(file, key):
                raise UserError(
                    f"{key} is empty: the suite has no trials. Name at least one.", where=self.where(key)
                )
        tasks = tuple(self.task(i, text) for i, text in enumerate(file.tasks))
        return Suite(
            name=self.name,
            title=file.title,
            description=file.description,
            tasks=self.distinct(tasks, "tasks"),
            regularizers=self.distinct(
                tuple(self.composition(i, text) for i, text in enumerate(file.regularizers)), "regularizers"
            ),
            seeds=self.seeds(file.seeds),
            models=tuple(self.model_choices(file.models)),
            budgets=tuple(self.budget_choices(file)),
            recipes=tuple(self.recipe_choices(file)),
            exclude=tuple(self.exclude(i, entry) for i, entry in enumerate(file.exclude)),
            selection=file.selection,
            evaluations=self.distinct(
                tuple(self.evaluation(i, text) for i, text in enumerate(file.evaluations)), "evaluations"
            ),
            raw=self.raw,
        )

    def outer_form(self) -> _File:
        try:
            return _File.model_validate(self.raw)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            path = tuple(first["loc"])
            what = ".".join(str(step) for step in path)
            message = explain(first, what, None)
            if first["type"] == "list_type" and isinstance(first["input"], str):
                message += f" Write [{first['input']}]."
            if first["type"] == "string_type" and first["input"] is None:
                message += " An empty item, or one that YAML reads as null."
            raise UserError(message, where=self.where(*path)) from error

    def task(self, position: int, text: str) -> TaskSettings | MissingTask:
        where = self.where("tasks", position)
        call = parse_one(text, kind="task", where=where)
        extra = plugins.missing_extra(call.name)
        if extra is not None:
            return MissingTask(text, extra)
        task: TaskSettings = settings(plugins.load("task", call.name, where=where), call, where=where)
        return task

    def composition(self, position: int, text: str) -> Composition:
        where = self.where("regularizers", position)
        parts = [
            settings(plugins.load("regularizer", call.name, where=where), call, where=where)
            for call in parse(text, kind="regularizer", where=where)
        ]
        try:
            ordered = check_composition(parts)
        except UserError as error:
            raise error.at(where) from error
        acting = tuple(part for part in ordered if part.name != "none")
        return acting or ordered

    def evaluation(self, position: int, text: str) -> EvaluationSettings:
        where = self.where("evaluations", position)
        call = parse_one(text, kind="evaluation", where=where)
        declared = plugins.load("evaluation", call.name, where=where)
        evaluation: EvaluationSettings = settings(declared, call, where=where)
        return evaluation

    def distinct(self, items: tuple[Any, ...], key: str) -> tuple[Any, ...]:
        for position, item in enumerate(items):
            if item in items[:position]:
                raise UserError(
                    f"{self.raw[key][position]!r} stands twice in {key}.", where=self.where(key, position)
                )
        return items

    def seeds(self, value: Any) -> tuple[int, ...]:
        where = self.where("seeds")
        if isinstance(value, int) and not isinstance(value, bool):
            if value < 1:
                raise UserError(
                    f"seeds is a number of seeds of at least 1, or a list; not {value}.", where=where
                )
            return tuple(range(value))
        if not isinstance(value, list) or not all(type(seed) is int and seed >= 0 for seed in value):
            raise UserError(
                f"seeds must be a whole number (3 means 0, 1, 2) or a list of them, not {value!r}.",
                where=where,
            )
        if not value:
            raise UserError("seeds is empty: the suite has no trials. Name at least one.", where=where)
        if len(set(value)) < len(value):
            raise UserError(f"A seed stands twice in {value}.", where=where)
        return tuple(value)

    def pattern(self, text: Any, kind: str, where: str) -> Pattern | None:
        """Return what matches a task or regularizer; None where its package is not installed."""
        if not isinstance(text, str):
            raise UserError(f"{kind} must be a name, not {text!r}.", where=where)
        call = parse_one(text, kind=kind, where=where)
        if kind == "task" and plugins.missing_extra(call.name) is not None:
            return None
        return _pattern(plugins.load(kind, call.name, where=where), call, where)

    def model_choices(self, models: Mapping[str, list[str]]) -> Any:
        for key, names in models.items():
            where = self.where("models", key)
            pattern = self.pattern(key, "task", where)
            if not names:
                raise UserError(f"models.{key} is empty: name a model, or leave {key} out.", where=where)
            if pattern is not None:
                calls = tuple(parse_one(text, kind="model", where=where) for text in names)
                declared = plugins.load("task", pattern.name)
                for call in calls:
                    resolve_model(declared, call, where)
                yield pattern, calls, where

    def budget_choices(self, file: _File) -> Any:
        if file.budget:
            yield None, build(Budget, file.budget, what="budget", where=self.where("budget"))
        for key, values in file.budgets.items():
            where = self.where("budgets", key)
            pattern = self.pattern(key, "task", where)
            budget = build(Budget, values, what=f"budgets.{key}", where=where)
            if pattern is not None:
                yield pattern, budget

    def recipe_choices(self, file: _File) -> Any:
        if file.recipe:
            yield None, self.recipe(file.recipe, "recipe"), self.where("recipe")
        for key, values in file.recipes.items():
            pattern = self.pattern(key, "task", self.where("recipes", key))
            changes = self.recipe(values, "recipes", key)
            if pattern is not None:
                yield pattern, changes, self.where("recipes", key)

    def recipe(self, values: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
        what = ".".join(path)
        if "budget" in values:
            raise UserError(
                "The budget has its own key beside recipe: budget.", where=self.where(*path, "budget")
            )
        return check(Recipe, values, what=what, place=lambda key: self.where(*path, key))

    def exclude(self, position: int, entry: Mapping[str, Any]) -> Exclude:
        names = [field.name for field in dataclasses.fields(Exclude)]
        for key in entry:
            if key not in names:
                raise unknown_key(
                    str(key), names, what="An exclude entry", where=self.where("exclude", position, str(key))
                )
        where = self.where("exclude", position)
        if not entry:
            raise UserError("An empty exclude entry would exclude everything.", where=where)
        found: dict[str, Any] = {}
        if "task" in entry:
            # A task that is not installed is skipped anyway; this pattern then matches nothing.
            found["task"] = self.pattern(entry["task"], "task", where) or Pattern(str(entry["task"]), {})
        if "model" in entry:
            call = parse_one(str(entry["model"]), kind="model", where=where)
            found["model"] = Pattern(call.name, self.model_settings(call, where))
        if "regularizer" in entry:
            calls = parse(str(entry["regularizer"]), kind="regularizer", where=where)
            found["regularizer"] = tuple(
                _pattern(plugins.load("regularizer", call.name, where=where), call, where) for call in calls
            )
        if "seed" in entry:
            if type(entry["seed"]) is not int:
                raise UserError(f"seed must be a whole number, not {entry['seed']!r}.", where=where)
            found["seed"] = entry["seed"]
        return Exclude(**found)

    def model_settings(self, call: Call, where: str) -> Mapping[str, Any]:
        tasks, _ = plugins.load_all("task")
        models = {model.name: model for task in tasks.values() for model in task.models}
        if call.name not in models:
            raise unknown("model", call.name, models, listing="regathlon list models", where=where)
        return _pattern(models[call.name], call, where).settings


def _pattern(declared: type[Any], call: Call, where: str) -> Pattern:
    """Return a pattern of the settings that a call gives, checked against a declaration."""
    full: Any = settings(declared, call, where=where)
    return Pattern(call.name, {key: getattr(full, key) for key in call.arguments})
