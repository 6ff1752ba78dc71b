"""What a run directory says: one outcome per cell of its plan, read from the trials' own files."""

from __future__ import annotations

import math
import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regathlon.evaluations import Evaluated, read_evaluations
from regathlon.store import RunFolder, TrialState
from regathlon_core.errors import UserError
from regathlon_core.settings import Selection

SELECTIONS: tuple[str, ...] = typing.get_args(Selection)
FAILURES = ("failed", "oom")
ENDED = ("done", "failed", "oom", "skipped")
"""Statuses that more of the same run does not change by itself."""


@dataclass(frozen=True)
class Outcome:
    """A cell and where it stands.

    Attributes:
        cell: As in ``plan.json``: id, folder, task, dataset, model, regularizer, seed, metric, ...
        status: ``planned``, ``running``, ``done``, ``failed``, ``oom`` or ``skipped``.
        reason: In words, where there is something to say.
        result: ``result.json`` of a trial that is done or failed.
        share: Of the steps that are done, while running or stopped.
        damaged: Whether there is a result that cannot be used; the trial then counts as not run.
        evaluations: What evaluations left, of those that the plan names.
    """

    cell: Mapping[str, Any]
    status: str
    reason: str | None = None
    result: Mapping[str, Any] | None = None
    share: float = 0.0
    damaged: bool = False
    evaluations: tuple[Evaluated, ...] = ()

    @property
    def metric(self) -> str:
        """The task's leading metric."""
        return str(self.cell.get("metric", ""))

    def selected(self, selection: str) -> Mapping[str, Any]:
        """Return the epoch that a selection reads: ``epoch``, ``val``, ``test``; or ``unavailable``."""
        if self.status != "done" or self.result is None:
            return {}
        found: Mapping[str, Any] = self.result["selections"].get(selection, {})
        return found

    def metrics(self, selection: str, split: str = "test") -> dict[str, float]:
        """Return the metrics that are finite numbers, by name."""
        values = self.selected(selection).get(split) or {}
        return {name: float(value) for name, value in values.items() if is_number(value)}

    @property
    def evaluated(self) -> dict[str, float]:
        """The finite numbers of evaluations, as ``evaluation/metric``: of the last model, whatever the selection."""
        return {
            f"{found.name}/{name}": value
            for found in self.evaluations
            for name, value in found.metrics.items()
            if value is not None and math.isfinite(value)
        }

    def score(self, selection: str) -> float | None:
        """Return the leading metric on the test split, or None where there is none."""
        return self.metrics(selection).get(self.metric)

    @property
    def cost(self) -> Mapping[str, Any]:
        """What the training took; empty where it did not end."""
        found: Mapping[str, Any] = (self.result or {}).get("cost") or {}
        return found

    @property
    def environment(self) -> Mapping[str, Any]:
        """What it was computed with; empty where that is unknown."""
        found: Mapping[str, Any] = (self.result or {}).get("environment") or {}
        return found


def is_number(value: object) -> bool:
    """Tell whether something read from a file is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class Results:
    """All outcomes of a run."""

    folder: Path
    suite: str
    title: str
    selection: str
    outcomes: tuple[Outcome, ...]

    def counts(self) -> Mapping[str, int]:
        """Return how many cells stand where."""
        return Counter(outcome.status for outcome in self.outcomes)

    def of(self, *statuses: str) -> Sequence[Outcome]:
        """Return the outcomes with one of these statuses."""
        return [outcome for outcome in self.outcomes if outcome.status in statuses]


def read_results(folder: Path) -> Results:
    """Read a run directory; needs none of the packages that made it.

    Raises:
        UserError: It is no run directory, or its plan is damaged.
    """
    run = RunFolder(folder)
    plan = run.plan()
    outcomes = []
    try:
        for cell in plan["cells"]:
            _check(cell)
            if cell["status"] == "skipped":
                outcomes.append(Outcome(cell, "skipped", cell["reason"]))
            else:
                at = run.trial(cell["folder"])
                evaluations = read_evaluations(at, cell.get("evaluations") or ())
                outcomes.append(replace(outcome(cell, at.state()), evaluations=evaluations))
        names = (plan["suite"], plan.get("title") or "", plan["selection"])
        if not all(isinstance(name, str) for name in names):
            raise TypeError("suite, title or selection is no text")
        return Results(folder, *names, tuple(outcomes))
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{folder / 'plan.json'} is damaged ({type(error).__name__}: {error}). "
            f"It is made anew by: regathlon run {folder}"
        ) from error


def _check(cell: Mapping[str, Any]) -> None:
    """Raise KeyError or TypeError where a cell lacks what every report reads."""
    for key in ("status", "task", "dataset", "model", "regularizer"):
        optional = key in ("dataset", "model")
        if not isinstance(cell[key], str) and not (optional and cell[key] is None):
            raise TypeError(f"the {key} {cell[key]!r} is no name")
    if not isinstance(cell["seed"], int):
        raise TypeError(f"the seed {cell['seed']!r} is no whole number")
    for key in ("task", "dataset", "model", "recipe") if "description" in cell else ():
        if not isinstance(cell["description"][key], dict):
            raise TypeError(f"the description's {key} is no mapping")


def outcome(cell: Mapping[str, Any], state: TrialState) -> Outcome:
    """Return the outcome of a planned cell."""
    return Outcome(cell, state.status, state.reason, state.result, state.share, state.damaged)
