"""What a suite will cost, from the measured steps of trials that are done, and which part of it fits in a time."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regathlon.results import is_number
from regathlon.store import RunFolder, TrialFolder
from regathlon_core.errors import UserError

Key = tuple[str, ...]


@dataclass(frozen=True)
class Pace:
    """What was measured on trials of one kind; None where it is unknown.

    Attributes:
        step_seconds: Wall time of a training step.
        step_flops: Floating-point operations of one.
        steps_per_epoch: Steps in an epoch.
        evaluation_seconds: Wall time of an evaluation.
        start_seconds: Wall time before the first step and after the last.
        memory_mb: Peak memory in MiB.
        disk_mb: What a trial's folder held.
        trials: On how many trials.
    """

    step_seconds: float
    step_flops: float | None
    steps_per_epoch: float | None
    evaluation_seconds: float
    start_seconds: float
    memory_mb: float | None
    disk_mb: float
    trials: int


@dataclass(frozen=True)
class Price:
    """What a trial will cost; None where it cannot be known.

    Attributes:
        seconds: Wall time on one core or device.
        flops: Floating-point operations of its training.
        memory_mb: Peak memory in MiB.
        disk_mb: What its folder will hold.
        source: ``measured`` on trials of the same task, model and regularizer; ``alike``: on others with the same
            task and model, times what the regularizer costs elsewhere where that is known; ``unknown``.
    """

    seconds: float | None = None
    flops: float | None = None
    memory_mb: float | None = None
    disk_mb: float | None = None
    source: str = "unknown"


class PriceList:
    """Learns from trials that are done what others will cost."""

    def __init__(self) -> None:
        self._seen: dict[Key, dict[str, list[Pace]]] = {}

    def learn(self, at: TrialFolder, cell: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Take note of a trial; one without measured steps is passed over."""
        pace = _pace(at, result)
        if pace is not None and cell.get("description"):
            same, regularizer = _kind(cell)
            self._seen.setdefault(same, {}).setdefault(regularizer, []).append(pace)

    def learn_run(self, folder: Path) -> None:
        """Take note of all trials of a run; a folder that is none teaches nothing."""
        run = RunFolder(folder)
        try:
            cells = run.plan()["cells"]
            for cell in cells:
                if cell.get("status") != "skipped":
                    at = run.trial(cell["folder"])
                    state = at.state()
                    if state.status == "done" and state.result is not None:
                        self.learn(at, cell, state.result)
        except (UserError, KeyError, TypeError, AttributeError):
            return

    def price(self, cell: Mapping[str, Any]) -> Price:
        """Return what a planned cell will cost."""
        same, regularizer = _kind(cell)
        recipe = cell["description"]["recipe"]
        of_task = self._seen.get(same, {})
        if regularizer in of_task:
            return _price(_mean(of_task[regularizer]), recipe, "measured")
        if not of_task:
            return Price()
        # As much dearer than the others of its task as it is elsewhere.
        ratios = {name: self._ratio(regularizer, name) for name in of_task}
        known = [name for name, ratio in ratios.items() if ratio is not None] or list(of_task)
        paces = [_dearer(_mean(of_task[name]), ratios[name] or 1.0) for name in known]
        return _price(_mean(paces), recipe, "alike")

    def _ratio(self, regularizer: str, other: str) -> float | None:
        """Return how many times another's step time a regularizer's is, where both were measured."""
        ratios = [
            _mean(found[regularizer]).step_seconds / _mean(found[other]).step_seconds
            for found in self._seen.values()
            if regularizer in found and other in found
        ]
        return statistics.median(ratios) if ratios else None

    @property
    def trials(self) -> int:
        """On how many trials it rests."""
        return sum(len(paces) for found in self._seen.values() for paces in found.values())


def _kind(cell: Mapping[str, Any]) -> tuple[Key, str]:
    """Return what a trial's pace depends on: task, model, batch size and precision; and the regularizer."""
    described = cell["description"]
    recipe = described["recipe"]
    parts = (described["task"], described["model"], recipe.get("batch_size"), recipe.get("precision"))
    # As JSON, because what is read from a file has lists where a fresh plan has tuples.
    return tuple(map(_text, parts)), _text(described["regularizer"])


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _pace(at: TrialFolder, result: Mapping[str, Any]) -> Pace | None:
    cost, own = result.get("cost") or {}, result.get("pace") or {}
    steps, step = cost.get("steps"), cost.get("step_seconds")
    if not (is_number(steps) and is_number(step) and steps and step):
        return None
    history = result.get("history", ())
    evaluations = sum(bool(record.get("val") or record.get("test")) for record in history)
    evaluation = own.get("evaluation_seconds") or 0.0
    wall = result.get("wall_seconds") or 0.0
    return Pace(
        step_seconds=step,
        step_flops=cost["train_flops"] / steps if is_number(cost.get("train_flops")) else None,
        steps_per_epoch=own.get("steps_per_epoch") or (history[0].get("step") if len(history) > 1 else None),
        evaluation_seconds=evaluation,
        start_seconds=max(0.0, wall - (cost.get("train_seconds") or 0.0) - evaluations * evaluation),
        memory_mb=cost.get("peak_memory_mb") or None,
        disk_mb=sum(path.stat().st_size for path in at.path.rglob("*") if path.is_file()) / 2**20,
        trials=1,
    )


def _mean(paces: Sequence[Pace]) -> Pace:
    def mean(name: str) -> float | None:
        values = [value for pace in paces if (value := getattr(pace, name)) is not None]
        return statistics.fmean(values) if values else None

    return Pace(
        # The median: a trial that shared its core with others tells little.
        step_seconds=statistics.median(pace.step_seconds for pace in paces),
        step_flops=mean("step_flops"),
        steps_per_epoch=mean("steps_per_epoch"),
        evaluation_seconds=mean("evaluation_seconds") or 0.0,
        start_seconds=statistics.median(pace.start_seconds for pace in paces),
        memory_mb=max((pace.memory_mb for pace in paces if pace.memory_mb), default=None),
        disk_mb=mean("disk_mb") or 0.0,
        trials=len(paces),
    )


def _dearer(pace: Pace, ratio: float) -> Pace:
    flops = None if pace.step_flops is None else pace.step_flops * ratio
    return dataclasses.replace(pace, step_seconds=pace.step_seconds * ratio, step_flops=flops)


def _price(pace: Pace, recipe: Mapping[str, Any], source: str) -> Price:
    steps = _steps(pace, recipe["budget"])
    if steps is None:
        return Price(memory_mb=pace.memory_mb, disk_mb=pace.disk_mb, source=source)
    epochs = math.ceil(steps / pace.steps_per_epoch) if pace.steps_per_epoch else 1
    evaluations = math.ceil(epochs / (recipe.get("eval_every") or 1))
    seconds = pace.start_seconds + steps * pace.step_seconds + evaluations * pace.evaluation_seconds
    flops = None if pace.step_flops is None else steps * pace.step_flops
    return Price(seconds, flops, pace.memory_mb, pace.disk_mb, source)


def _steps(pace: Pace, budget: Mapping[str, Any]) -> float | None:
    given = {name: value for name, value in budget.items() if value is not None}
    if "steps" in given:
        return float(given["steps"])
    if "epochs" in given:
        return given["epochs"] * pace.steps_per_epoch if pace.steps_per_epoch else None
    if "seconds" in given:
        return float(given["seconds"] / pace.step_seconds)
    if "flops" in given and pace.step_flops:
        return float(given["flops"] / pace.step_flops)
    return None


def total(prices: Iterable[Price], jobs: int) -> Price:
    """Return what several trials cost together, ``jobs`` at a time; None where one of them is unknown.

    Memory is that of the largest ``jobs`` trials at once.
    """
    every = list(prices)

    def summed(name: str) -> float | None:
        values = [getattr(price, name) for price in every]
        return None if None in values else math.fsum(values)

    seconds = summed("seconds")
    if seconds is not None:
        seconds = max(seconds / jobs, max((price.seconds or 0.0 for price in every), default=0.0))
    memory = sorted((price.memory_mb or 0.0 for price in every), reverse=True)[:jobs]
    return Price(seconds, summed("flops"), sum(memory) if memory else None, summed("disk_mb"), "total")


@dataclass(frozen=True)
class Part:
    """A balanced part of a suite.

    Attributes:
        seeds: Seeds that every method of every table gets, in the suite's order.
        tables: Task and model of the tables that get ``extra`` as well.
        extra: One more seed; None where every table has all seeds.
        chosen: Positions of the chosen cells.
        seconds: What is left to run of them takes.
    """

    seeds: tuple[int, ...]
    tables: tuple[tuple[str, str], ...]
    extra: int | None
    chosen: frozenset[int]
    seconds: float


def fit_within(cells: Sequence[Mapping[str, Any]], seconds: Sequence[float], limit: float, jobs: int) -> Part:
    """Choose the largest balanced part of a suite that fits in a time.

    Every method gets the same seeds in every table, as many as fit; then whole tables (all methods of a task and model)
    get one seed more, cheapest first, so that n never differs within a table.

    Args:
        cells: The plan's trials.
        seconds: What is left to run of each takes; 0 for those that are done.
        limit: The time, in seconds.
        jobs: How many run at a time.
    """

    def cost(chosen: Iterable[int]) -> float:
        left = [seconds[position] for position in chosen]
        return max(math.fsum(left) / jobs, max(left, default=0.0))

    order = list(dict.fromkeys(cell["seed"] for cell in cells))
    chosen: set[int] = set()
    done: list[int] = []
    for seed in order:
        more = chosen | {position for position, cell in enumerate(cells) if cell["seed"] == seed}
        if cost(more) > limit:
            break
        chosen = more
        done.append(seed)
    extra = order[len(done)] if len(done) < len(order) else None
    tables: dict[tuple[str, str], set[int]] = {}
    for position, cell in enumerate(cells):
        if cell["seed"] == extra:
            tables.setdefault((cell["task"], cell["model"]), set()).add(position)
    taken = []
    for table, positions in sorted(tables.items(), key=lambda item: math.fsum(seconds[p] for p in item[1])):
        if cost(chosen | positions) <= limit:
            chosen |= positions
            taken.append(table)
    return Part(tuple(done), tuple(taken), extra, frozenset(chosen), cost(chosen))


def part_of_suite(raw: Mapping[str, Any], part: Part, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the suite file of a part.

    Args:
        raw: The whole suite's file.
        part: As chosen.
        cells: The plan's trials.
    """
    suite = dict(raw)
    whole = [*part.seeds, *([part.extra] if part.tables and part.extra is not None else [])]
    suite["seeds"] = whole
    tables = dict.fromkeys((cell["task"], cell["model"]) for cell in cells)
    left_out = [
        {"task": task, "model": model, "seed": part.extra}
        for task, model in tables
        if part.tables and (task, model) not in part.tables
    ]
    if left_out:
        suite["exclude"] = [*(raw.get("exclude") or ()), *left_out]
    return suite


_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def read_duration(text: str) -> float:
    """Read a time such as ``8h``, ``90m`` or ``1h30m``, in seconds.

    Raises:
        UserError: It is none.

    Example:
        >>> [read_duration(text) for text in ("8h", "1h30m", "45 s")]
        [28800.0, 5400.0, 45.0]
    """
    words = re.findall(r"\s*(\d+(?:\.\d+)?)\s*(d|h|min|m|s)\s*", text)
    written = re.fullmatch(r"(?:\s*\d+(?:\.\d+)?\s*(?:d|h|min|m|s)\s*)+", text)
    if not written:
        raise UserError(f"{text!r} is no time. Write it as 8h, 90m or 1h30m.", where="--within")
    return sum(float(number) * _UNITS[unit] for number, unit in words)
