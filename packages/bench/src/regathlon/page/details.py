"""What the page tells of every single trial, as data for its script: shared parts once, logs cut to their ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from regathlon.leaderboard import flat
from regathlon.page.origins import read_suite, settings, words
from regathlon.page.text import plain
from regathlon.results import FAILURES, SELECTIONS, Outcome
from regathlon.store import RunFolder
from regathlon.wording import NOTHING, si

LOG_BYTES, LOGS_BYTES = 6_000, 1_200_000
"""Of one log's end, and of all together; those of trials that failed are cut last."""

_COSTS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("train_seconds", "training time", lambda value: f"{value:.4g} s"),
    ("step_seconds", "time of a step", lambda value: f"{1000 * value:.4g} ms"),
    ("peak_memory_mb", "peak memory", lambda value: f"{value:.4g} MiB"),
    ("train_flops", "training FLOPs", si),
    ("steps", "steps", lambda value: f"{value:g}"),
)


def details(outcomes: Sequence[Outcome], run: RunFolder) -> dict[str, Any]:
    """Return everything about the trials of a run, as plain data.

    Returns:
        ``settings``: lists of [part, key, value, origin], each of which many trials share; ``environments``: lists
        of [name, value]; ``trials`` by id: ``settings`` and ``environment`` (positions in the former), ``own``
        (settings that others do not share), ``status``, ``reason``, ``facts`` [name, value], ``metrics``
        [split, metric, value by selection], ``log``, ``cut`` (whether the log's beginning is left out), ``folder``.
    """
    suite = read_suite(run.suite_file)
    shared, environments = _Once(), _Once()
    with_trial = [outcome for outcome in outcomes if "id" in outcome.cell and "folder" in outcome.cell]
    failed = sum(outcome.status in FAILURES for outcome in with_trial)
    log_bytes = min(LOG_BYTES, max(0, LOGS_BYTES - failed * LOG_BYTES) // max(len(with_trial) - failed, 1))
    trials = {}
    for outcome in with_trial:
        all_settings = settings(outcome.cell, suite)
        length = min(LOG_BYTES, LOGS_BYTES // failed) if outcome.status in FAILURES else log_bytes
        log, cut = log_end(run.trial(str(outcome.cell["folder"])).log, length)
        trials[str(outcome.cell["id"])] = {
            "settings": shared.place(tuple(map(tuple, all_settings[:-1]))),
            "own": [list(setting) for setting in all_settings[-1:]],
            "environment": environments.place(_environment(outcome.environment)),
            "status": outcome.status,
            "reason": outcome.reason,
            "facts": _facts(outcome),
            "metrics": _metrics(outcome),
            "log": log,
            "cut": cut,
            "folder": str(outcome.cell["folder"]),
        }
    return {
        "settings": shared.values,
        "environments": environments.values,
        "selections": list(SELECTIONS),
        "trials": trials,
    }


class _Once:
    """Keeps every value once, in the order of their coming."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[Any, int] = {}

    def place(self, value: Any) -> int:
        """Return where a value is kept."""
        if value not in self._places:
            self._places[value] = len(self.values)
            self.values.append(value)
        return self._places[value]


def log_end(file: Path, length: int) -> tuple[str, bool]:
    """Return the last lines of a log, and whether lines before them are left out.

    Args:
        file: The log; it need not exist.
        length: Of the end in bytes.
    """
    try:
        with file.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - length))
            raw = log.read(length)
    except OSError:
        return "", False
    cut = size > length
    if cut:
        raw = raw.partition(b"\n")[2] or raw  # from the beginning of a line
    return plain(raw.decode("utf-8", errors="replace")), cut


def _environment(environment: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name.removeprefix("packages."), words(value)) for name, value in flat(environment).items())


def _facts(outcome: Outcome) -> list[tuple[str, str]]:
    """Return a trial's cost and its times, in words."""
    result, cost = outcome.result or {}, outcome.cost
    facts = [
        (label, write(cost[name])) for name, label, write in _COSTS if isinstance(cost.get(name), int | float)
    ]
    history = result.get("history")
    if isinstance(history, list):
        facts.append(("epochs", str(len(history))))
    if result.get("wall_seconds") is not None:
        facts.append(("time in all", f"{words(result['wall_seconds'])} s"))
    if result.get("finished") is not None:
        facts.append(("finished", words(result["finished"])))
    failed = (evaluated for evaluated in outcome.evaluations if evaluated.status != "done")
    return facts + [(one.name, f"{one.status}: {one.reason or NOTHING}") for one in failed]


def _metrics(outcome: Outcome) -> list[list[Any]]:
    """Return metrics by split and name: one value per selection, null where there is none."""
    found: dict[tuple[str, str], list[float | None]] = {}
    for position, selection in enumerate(SELECTIONS):
        for split in ("val", "test"):
            for name, value in outcome.metrics(selection, split).items():
                values = found.setdefault((split, name), [None] * len(SELECTIONS))
                values[position] = float(f"{value:.6g}")
    rows = [[split, name, *values] for (split, name), values in sorted(found.items())]
    # Evaluations see the last model only.
    nothing = [None] * (len(SELECTIONS) - 1)
    return rows + [
        ["evaluation", name, float(f"{value:.6g}"), *nothing] for name, value in outcome.evaluated.items()
    ]
