"""What a run directory says: one outcome per cell of its plan, read from the trials' own files."""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regathlon.store import RunFolder, TrialState
from regathlon_core.settings import Selection

SELECTIONS: tuple[str, ...] = typing.get_args(Selection)
FAILURES = ("failed", "oom")


@dataclass(frozen=True)
class Outcome:
    """A cell and where it stands.

    Attributes:
        cell: As in ``plan.json``: id, folder, task, dataset, model, regularizer, seed, metric, ...
        status: ``planned``, ``running``, ``done``, ``failed``, ``oom`` or ``skipped``.
        reason: In words, where there is something to say.
        result: ``result.json`` of a trial that is done or failed.
        share: Of the steps that are done, while running or stopped.
    """

    cell: Mapping[str, Any]
    status: str
    reason: str | None = None
    result: Mapping[str, Any] | None = None
    share: float = 0.0

    @property
    def metric(self) -> str:
        """The task's leading metric."""
        return str(self.cell.get("metric", ""))

    def selected(self, selection: str) -> Mapping[str, Any]:
        """Return the epoch that a selection reads: ``epoch``, ``val``, ``test``; or ``unavailable``."""
        if self.result is None:
            return {}
        found: Mapping[str, Any] = self.result.get("selections", {}).get(selection, {})
        return found

    def score(self, selection: str) -> float | None:
        """Return the leading metric on the test split, or None where there is none."""
        value = self.selected(selection).get("test", {}).get(self.metric)
        return None if value is None else float(value)

    @property
    def cost(self) -> Mapping[str, Any]:
        """What the training took; empty where it did not end."""
        found: Mapping[str, Any] = (self.result or {}).get("cost", {})
        return found


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
        UserError: It is no run directory.
    """
    run = RunFolder(folder)
    plan = run.plan()
    outcomes = []
    for cell in plan["cells"]:
        if cell["status"] == "skipped":
            outcomes.append(Outcome(cell, "skipped", cell["reason"]))
        else:
            outcomes.append(outcome(cell, run.trial(cell["folder"]).state()))
    return Results(folder, plan["suite"], plan.get("title", ""), plan["selection"], tuple(outcomes))


def outcome(cell: Mapping[str, Any], state: TrialState) -> Outcome:
    """Return the outcome of a planned cell."""
    return Outcome(cell, state.status, state.reason, state.result, state.share)
