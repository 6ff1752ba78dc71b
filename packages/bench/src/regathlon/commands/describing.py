"""``regathlon describe``: the card of whatever a name names."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from regathlon import datasets, plugins
from regathlon.citations import card
from regathlon.commands.output import out
from regathlon_core.errors import UserError, unknown
from regathlon_core.notation import parse
from regathlon_core.recipe import Recipe
from regathlon_core.settings import CAPABILITIES, Applicable, Declaration, TaskSettings


def show_description(name: str) -> None:
    """Print what there is to know of a name."""
    bare = parse(name, kind="name")[0].name if name.strip() else name
    regularizers, tasks = plugins.registered("regularizer"), plugins.registered("task")
    evaluations = plugins.registered("evaluation")
    suites, sets = plugins.suite_files(), datasets.names()
    models = {model.name: model for task in plugins.load_all("task")[0].values() for model in task.models}
    if bare in regularizers:
        _print(_applicable(plugins.load("regularizer", bare)))
    elif bare in evaluations:
        _print(_applicable(plugins.load("evaluation", bare)))
    elif bare in tasks:
        _print(_task(plugins.load("task", bare)))
    elif bare in models:
        _print(_model(models[bare]))
    elif bare in suites:
        _print(suites[bare].read_text(encoding="utf-8").rstrip())
    elif bare in sets:
        _print(datasets.describe(bare))
    elif (extra := plugins.missing_extra(bare)) is not None:
        raise UserError(f"The task {bare!r} {plugins.needs_extra(extra)}.")
    else:
        everything = {*regularizers, *tasks, *evaluations, *models, *suites, *sets}
        raise unknown(
            "regularizer, task, model, evaluation, data set or suite",
            bare,
            everything,
            listing="regathlon list KIND",
        )


def _print(text: str) -> None:
    out().print(text, soft_wrap=True)


def _applicable(declared: type[Applicable]) -> str:
    text = card(declared)
    needs = [f"* {CAPABILITIES.get(need, need)}" for need in sorted(declared.needs)]
    parts = [text or f"# {declared.name}\n\n{_docstring(declared)}", _settings(declared)]
    if needs:
        parts.append("Needs of a task:\n" + "\n".join(needs))
    return "\n\n".join(filter(None, parts))


def _task(declared: type[TaskSettings]) -> str:
    offers = [f"* {CAPABILITIES.get(name, name)}" for name in sorted(declared.provides)]
    lower = " (lower is better)" if declared.lower_is_better else ""
    parts = [
        f"# {declared.name}\n\n{_docstring(declared)}",
        f"Data set: {declared().dataset}. Metric: {declared.metric}{lower}.",
        "Models:\n" + "\n".join(f"* {model.name}: {model.summary}" for model in declared.models),
        _settings(declared),
        f"Recipe: {_recipe(declared.recipe)}",
        "Offers to regularizers:\n" + "\n".join(offers),
    ]
    return "\n\n".join(filter(None, parts))


def _model(declared: type[Declaration]) -> str:
    tasks = [name for name, task in plugins.load_all("task")[0].items() if declared in task.models]
    parts = [
        f"# {declared.name}\n\n{_docstring(declared)}",
        _settings(declared),
        f"Of the tasks: {', '.join(tasks)}.",
    ]
    return "\n\n".join(filter(None, parts))


def _docstring(declared: type) -> str:
    return inspect.cleandoc(declared.__doc__ or "")


def _settings(declared: type[Declaration]) -> str:
    fields = dataclasses.fields(declared)
    rows = [f"* {field.name}: {field.type} = {_default(field)}" for field in fields]
    return "Settings:\n" + "\n".join(rows) if rows else ""


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    return repr(field.default_factory()) if field.default_factory is not dataclasses.MISSING else "required"


def _recipe(recipe: Recipe) -> str:
    values = dataclasses.asdict(recipe)
    budget = {key: value for key, value in values.pop("budget").items() if value is not None}
    return ", ".join(f"{key}={value}" for key, value in {**values, **budget}.items())
