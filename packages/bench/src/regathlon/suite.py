"""Suites: a grid of trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regathlon.validation import settings
from regathlon_core.errors import unknown
from regathlon_core.notation import Call
from regathlon_core.recipe import Budget
from regathlon_core.settings import (
    EvaluationSettings,
    ModelSettings,
    RegularizerSettings,
    TaskSettings,
)

Composition = tuple[RegularizerSettings, ...]
"""Regularizers that act together, in the order they act."""


@dataclass(frozen=True)
class MissingTask:
    """A task of a package that is not installed: its cells are skipped."""

    name: str
    extra: str


@dataclass(frozen=True)
class Pattern:
    """What an ``exclude`` entry or a per-task key matches: a name, and the settings that it gives.

    Example:
        >>> from regathlon_core import NoRegularizerSettings
        >>> Pattern("none", {}).matches(NoRegularizerSettings())
        True
    """

    name: str
    settings: Mapping[str, Any]

    def matches(self, declared: TaskSettings | ModelSettings | RegularizerSettings) -> bool:
        """Tell whether a declaration has the name and all the given settings."""
        return declared.name == self.name and all(
            getattr(declared, key) == value for key, value in self.settings.items()
        )


@dataclass(frozen=True)
class Exclude:
    """Cells to leave out: those that match everything that is given."""

    task: Pattern | None = None
    model: Pattern | None = None
    regularizer: tuple[Pattern, ...] | None = None
    seed: int | None = None

    def matches(self, task: TaskSettings, model: ModelSettings, parts: Composition, seed: int) -> bool:
        """Tell whether a cell is left out. A regularizer matches a composition of exactly the same names."""
        return (
            (self.task is None or self.task.matches(task))
            and (self.model is None or self.model.matches(model))
            and (self.seed is None or self.seed == seed)
            and (self.regularizer is None or _same_parts(self.regularizer, parts))
        )


def _same_parts(patterns: Sequence[Pattern], parts: Composition) -> bool:
    return len(patterns) == len(parts) and all(any(p.matches(part) for p in patterns) for part in parts)


@dataclass(frozen=True)
class Suite:
    """A validated suite.

    Attributes:
        name: The file's name without its ending.
        tasks: What to learn, each with the task settings written.
        regularizers: With what.
        seeds: How often.
        models: Per task pattern; tasks that none matches use their default model.
        budgets: Per task pattern (None: every task), in rising precedence.
        recipes: Likewise: the fields that differ from the task's own recipe, and where they were written.
        exclude: Cells to leave out.
        selection: Which epoch results are read from.
        evaluations: What is measured and drawn on every trained model.
        raw: The resolved file, as written into run directories.
    """

    name: str
    tasks: tuple[TaskSettings | MissingTask, ...]
    regularizers: tuple[Composition, ...]
    seeds: tuple[int, ...]
    models: tuple[tuple[Pattern, tuple[Call, ...], str], ...]
    budgets: tuple[tuple[Pattern | None, Budget], ...]
    recipes: tuple[tuple[Pattern | None, Mapping[str, Any], str], ...]
    exclude: tuple[Exclude, ...]
    selection: str
    evaluations: tuple[EvaluationSettings, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    description: str = ""


def resolve_model(task: type[TaskSettings] | TaskSettings, call: Call, where: str | None) -> ModelSettings:
    """Return the settings of one of a task's models.

    Raises:
        UserError: The task has no such model.
    """
    models = {model.name: model for model in task.models}
    if call.name not in models:
        raise unknown(
            f"model of {task.name}", call.name, models, listing=f"regathlon describe {task.name}", where=where
        )
    return settings(models[call.name], call, where=where)
