"""What a suite would run: every cell of its grid, planned, or skipped with a reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regathlon import datasets, plugins
from regathlon.identity import describe_trial, folder_name, trial_id
from regathlon.suite import Composition, MissingTask, Suite, resolve_model
from regathlon.validation import build, settings
from regathlon_core.errors import UserError
from regathlon_core.notation import parse, parse_one
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.settings import EvaluationSettings, ModelSettings, TaskSettings


@dataclass(frozen=True)
class Trial:
    """One (task, model, regularizer, recipe, seed)."""

    task: TaskSettings
    model: ModelSettings
    regularizer: Composition
    recipe: Recipe
    seed: int
    dataset_version: int | None = None
    evaluations: tuple[EvaluationSettings, ...] = ()

    @property
    def description(self) -> dict[str, Any]:
        """The scientific description that the id is a hash of."""
        return describe_trial(
            self.task, self.dataset_version, self.model, self.regularizer, self.recipe, self.seed
        )

    @property
    def id(self) -> str:
        """The trial's identity."""
        return trial_id(self.description)

    def record(self) -> dict[str, Any]:
        """Return everything that running and reporting it needs, as plain data (``trial.json``)."""
        names = _names(self.task, self.model, self.regularizer, self.seed)
        identity = self.id
        return {
            "id": identity,
            "folder": folder_name(names["task"], names["model"], names["regularizer"], self.seed, identity),
            **names,
            "metric": self.task.metric,
            "lower_is_better": self.task.lower_is_better,
            "evaluations": [str(evaluation) for evaluation in self.evaluations],
            "description": self.description,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Trial:
        """Return the trial that a record describes.

        Raises:
            UserError: What is installed is not what planned it: a plugin is gone, or its version has changed.
        """
        task_call = parse_one(record["task"], kind="task")
        task: TaskSettings = settings(plugins.load("task", task_call.name), task_call)
        description = record["description"]
        recipe = dict(description["recipe"])
        budget = build(Budget, recipe.pop("budget"), what="budget")
        trial = cls(
            task=task,
            model=resolve_model(task, parse_one(record["model"], kind="model"), None),
            regularizer=tuple(
                settings(plugins.load("regularizer", call.name), call)
                for call in parse(record["regularizer"], kind="regularizer")
            ),
            recipe=dataclasses.replace(build(Recipe, recipe, what="recipe"), budget=budget),
            seed=record["seed"],
            dataset_version=description["dataset"]["version"],
            evaluations=tuple(
                settings(plugins.load("evaluation", call.name), call)
                for call in (parse_one(text, kind="evaluation") for text in record.get("evaluations", ()))
            ),
        )
        if trial.id != record["id"]:
            raise UserError(
                f"The trial {record['folder']} was planned with other versions of its task, model or "
                "regularizer, or other files of weights, than are here now. Run the suite again."
            )
        return trial


@dataclass(frozen=True)
class Cell:
    """One place of the grid: a trial to run, or the reason why there is none."""

    names: Mapping[str, Any]
    trial: Trial | None = None
    reason: str | None = None

    def record(self) -> dict[str, Any]:
        """Return it as plain data (``plan.json``)."""
        if self.trial is None:
            return {"status": "skipped", "reason": self.reason, **self.names}
        return {"status": "planned", **self.trial.record()}


@dataclass(frozen=True)
class Plan:
    """A suite's cells, seed by seed, so that a partial run already compares everything once."""

    suite: Suite
    cells: tuple[Cell, ...]

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The trials to run."""
        return tuple(cell.trial for cell in self.cells if cell.trial is not None)

    @property
    def refused_evaluations(self) -> Mapping[str, Mapping[str, str]]:
        """Evaluations that a task does not allow: task -> evaluation -> reason."""
        refused: dict[str, dict[str, str]] = {}
        for trial in self.trials:
            for evaluation in self.suite.evaluations:
                reason = evaluation.refusal(trial.task)
                if reason is not None:
                    refused.setdefault(str(trial.task), {})[str(evaluation)] = reason
        return refused

    @property
    def skipped(self) -> tuple[Cell, ...]:
        """The cells without a trial."""
        return tuple(cell for cell in self.cells if cell.trial is None)

    def record(self) -> dict[str, Any]:
        """Return it as plain data (``plan.json``)."""
        return {
            "suite": self.suite.name,
            "title": self.suite.title,
            "selection": self.suite.selection,
            "refused_evaluations": self.refused_evaluations,
            "cells": [cell.record() for cell in self.cells],
        }


def make_plan(suite: Suite, data: Path | None = None) -> Plan:
    """Expand a suite into cells.

    Args:
        suite: The grid.
        data: Folder of downloaded data sets.

    Raises:
        UserError: A recipe contradicts itself, or nothing is left to run or to skip.
    """
    cells: list[Cell] = []
    seen: set[str] = set()
    for cell in _expand(suite, data):
        if cell.trial is not None:
            if cell.trial.id in seen:
                continue
            seen.add(cell.trial.id)
        cells.append(cell)
    if not cells:
        raise UserError(f"The suite {suite.name!r} is empty: its exclude entries leave no trial.")
    return Plan(suite, tuple(cells))


def _expand(suite: Suite, data: Path | None) -> Iterator[Cell]:
    found: dict[str, str | None] = {}
    for seed in suite.seeds:
        for listed in suite.tasks:
            if isinstance(listed, MissingTask):
                for parts in suite.regularizers:
                    names = {
                        "task": listed.name,
                        "dataset": None,
                        "model": None,
                        "regularizer": _composed(parts),
                        "seed": seed,
                    }
                    yield Cell(names, reason=plugins.needs_extra(listed.extra))
                continue
            for task in listed.grid():
                recipe = _recipe(suite, task)
                if task.dataset not in found:
                    found[task.dataset] = datasets.missing(task.dataset, data)
                for model in _models(suite, task):
                    for parts in suite.regularizers:
                        if any(entry.matches(task, model, parts, seed) for entry in suite.exclude):
                            continue
                        reason = _refusal(task, parts) or _missing(model, parts) or found[task.dataset]
                        names = _names(task, model, parts, seed)
                        if reason is not None:
                            yield Cell(names, reason=reason)
                        else:
                            version = datasets.version(task.dataset)
                            allowed = tuple(each for each in suite.evaluations if each.refusal(task) is None)
                            trial = Trial(task, model, parts, recipe, seed, version, allowed)
                            yield Cell(names, trial)


def _names(task: TaskSettings, model: ModelSettings, parts: Composition, seed: int) -> dict[str, Any]:
    return {
        "task": str(task),
        "dataset": task.dataset,
        "model": str(model),
        "regularizer": _composed(parts),
        "seed": seed,
    }


def _composed(parts: Composition) -> str:
    return "+".join(str(part) for part in parts)


def _refusal(task: TaskSettings, parts: Composition) -> str | None:
    return next((reason for part in parts if (reason := part.refusal(task)) is not None), None)


def _missing(model: ModelSettings, parts: Composition) -> str | None:
    return next((reason for part in (model, *parts) if (reason := part.missing()) is not None), None)


def _models(suite: Suite, task: TaskSettings) -> list[ModelSettings]:
    for pattern, calls, where in suite.models:
        if pattern.matches(task):
            return [resolve_model(task, call, where) for call in calls]
    return [task.models[0]()]


def _recipe(suite: Suite, task: TaskSettings) -> Recipe:
    recipe = task.recipe
    for pattern, changes, where in suite.recipes:
        if pattern is None or pattern.matches(task):
            try:
                recipe = dataclasses.replace(recipe, **changes)
            except UserError as error:
                raise error.at(where) from error
    for pattern, budget in suite.budgets:
        if pattern is None or pattern.matches(task):
            recipe = dataclasses.replace(recipe, budget=budget)
    return recipe
