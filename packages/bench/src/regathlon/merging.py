"""Runs from several machines made one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regathlon import yaml_text
from regathlon.files import explained, write_json, write_text
from regathlon.results import Outcome, Results, read_results
from regathlon.store import RunFolder
from regathlon_core.errors import UserError

_WORTH = {"done": 3, "failed": 2, "oom": 2, "planned": 1, "skipped": 0}
"""Which of two copies of a trial is kept; between two that stopped, the one that came further."""

_GRID = ("tasks", "regularizers", "seeds")


@dataclass
class Merged:
    """What came of a merge.

    Attributes:
        copied: Number of trials' folders in the merged run.
        conflicts: Trials that are done in two runs with other numbers, one sentence each.
        notes: What else to know.
    """

    copied: int = 0
    conflicts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def merge_runs(target: Path, sources: Sequence[Path]) -> Merged:
    """Copy the trials of several runs into a new one.

    Of a trial in several runs the copy that came furthest is kept, the first of equals. A trial that is done in two
    runs must have the same numbers in both, for its identity says everything that they depend on; where it
    has not, that is a conflict, and the first is kept.

    Args:
        target: The new run's folder; must not exist, or be empty.
        sources: Run folders.

    Raises:
        UserError: The target holds something, a source is no run, or one of them is being trained.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} holds something already. Merge into a new folder.")
    runs = [read_results(source) for source in sources]
    for run in runs:
        if busy := run.of("running"):
            raise UserError(
                f"{run.folder} is still at work ({len(busy)} trials). Wait, or stop it, and merge then."
            )
    merged = Merged()
    kept = _choose(runs, merged)
    with explained(target):
        (target / "trials").mkdir(parents=True, exist_ok=True)
        for results, outcome in kept.values():
            if outcome.status == "skipped":
                continue
            source = RunFolder(results.folder).trial(outcome.cell["folder"])
            if source.path.is_dir():
                shutil.copytree(source.path, RunFolder(target).trial(outcome.cell["folder"]).path)
                merged.copied += 1
        _write_suite(target, runs, merged)
        plan = {
            "suite": runs[0].suite,
            "title": runs[0].title,
            "selection": runs[0].selection,
            "cells": [outcome.cell for _, outcome in kept.values()],
        }
        write_json(target / "plan.json", plan)
    return merged


def _choose(runs: Sequence[Results], merged: Merged) -> dict[tuple[Any, ...], tuple[Results, Outcome]]:
    """Return the outcome to keep of every cell, seed by seed as a plan is."""
    kept: dict[tuple[Any, ...], tuple[Results, Outcome]] = {}
    for results in runs:
        for outcome in results.outcomes:
            key = _key(outcome.cell)
            if key not in kept:
                kept[key] = (results, outcome)
                continue
            other, standing = kept[key]
            if outcome.status == standing.status == "done" and _numbers(outcome) != _numbers(standing):
                merged.conflicts.append(_conflict(standing, other, outcome, results))
            if _worth(outcome) > _worth(standing):
                kept[key] = (results, outcome)
    # What was skipped on one machine (no data) and planned on another is no longer skipped.
    planned = {_names(outcome.cell) for _, outcome in kept.values() if outcome.status != "skipped"}
    kept = {
        key: found
        for key, found in kept.items()
        if found[1].status != "skipped" or _names(found[1].cell) not in planned
    }
    return dict(sorted(kept.items(), key=lambda item: item[1][1].cell["seed"]))


def _key(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    return (cell["id"],) if cell.get("id") else _names(cell)


def _names(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    return (cell["task"], cell["model"], cell["regularizer"], cell["seed"])


def _worth(outcome: Outcome) -> tuple[int, float]:
    return _WORTH.get(outcome.status, 1), outcome.share


def _numbers(outcome: Outcome) -> object:
    return (outcome.result or {}).get("selections")


def _conflict(first: Outcome, one: Results, second: Outcome, two: Results) -> str:
    cell = first.cell
    scores = [
        f"{outcome.score(results.selection)} in {results.folder} (torch {outcome.environment.get('torch', 'unknown')}, "
        f"{outcome.environment.get('cpu') or outcome.environment.get('device', 'unknown device')})"
        for outcome, results in ((first, one), (second, two))
    ]
    return (
        f"{cell['task']} ({cell['model']}) {cell['regularizer']} seed {cell['seed']}: {first.metric} "
        f"{' and '.join(scores)}. The first is kept."
    )


def _write_suite(target: Path, runs: Sequence[Results], merged: Merged) -> None:
    """Write a suite of the merged grid, so that the merged run can go on; or the first, where there is none."""
    suites = []
    for run in runs:
        path = RunFolder(run.folder).suite_file
        if not path.is_file():
            merged.notes.append(
                f"{run.folder} has no suite.yaml, so {target} can be read but not be gone on with."
            )
            return
        suites.append(yaml_text.read(path.read_text(encoding="utf-8"), str(path)).value)
    whole = dict(suites[0])
    differing = [
        key
        for key in dict.fromkeys(k for s in suites for k in s)
        if any(s.get(key) != whole.get(key) for s in suites)
    ]
    if len(differing) == 1 and differing[0] in _GRID:
        (key,) = differing
        lists = [_seeds(suite.get(key)) if key == "seeds" else suite.get(key) for suite in suites]
        whole[key] = list(dict.fromkeys(item for values in lists for item in values or ()))
    elif differing:
        merged.notes.append(
            f"The suites differ in {', '.join(differing)}; {target}/suite.yaml is that of {runs[0].folder}. "
            "Reports show all trials; running it again would keep to that suite's."
        )
    write_text(target / "suite.yaml", yaml_text.write(whole))


def _seeds(value: Any) -> list[int]:
    """Return the seeds that a suite's entry means: a number of them, a list, or nothing for three."""
    if isinstance(value, list):
        return value
    return list(range(3 if value is None else value))
