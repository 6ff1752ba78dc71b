"""What shows runs elsewhere: TensorBoard, MLflow. A tracker is found through the entry points ``regathlon.trackers``.

A tracker reads what trials have written into their folders, in a process of its own, so that whatever happens to
it (a server that is gone, a full disk, a fault of its library) no trial ever waits for it or sees its errors.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from regathlon import plugins
from regathlon.files import read_json, write_json
from regathlon.results import Outcome, is_number, read_results
from regathlon.store import RunFolder
from regathlon_core.errors import UserError


class Tracker(Protocol):
    """Told what happened to trials, each thing once, in order. Errors are logged and tried again."""

    needs: ClassVar[str]
    """The package that it shows things with; asked for before a run begins."""

    def __init__(self, target: str | None, folder: Path, suite: str) -> None:
        """Get ready.

        Args:
            target: Where to show it, as the user wrote it: a folder or an address; None for the usual place.
            folder: The run directory.
            suite: Name of its suite.
        """

    def begin(self, cell: Mapping[str, Any]) -> str:
        """Make a place for a trial and return what to call it, which ``record`` and ``end`` get."""

    def record(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Show what was measured at a step: ``train_loss``, ``val/accuracy``, ..."""

    def end(self, name: str, outcome: Outcome, values: Mapping[str, float]) -> None:
        """Show how a trial ended: its status and reason, cost, and what evaluations measured."""


def find(name: str) -> type[Tracker]:
    """Return a tracker's class.

    Raises:
        UserError: There is none of that name, or its package is missing.
    """
    tracker: type[Tracker] = plugins.load("tracker", name, where="--tracker")
    if importlib.util.find_spec(tracker.needs) is None:
        raise UserError(
            f"The tracker {name!r} needs the package {tracker.needs}: pip install 'regathlon[{name}]'",
            where="--tracker",
        )
    return tracker


def synchronize(folder: Path, tracker: Tracker, name: str) -> int:
    """Tell a tracker what it has not been told yet, and return how many things that was.

    What was told is kept in ``DIR/trackers/<name>.json``, so that telling can stop and go on at any time.

    Args:
        folder: The run directory.
        tracker: Whom to tell.
        name: Of the tracker.
    """
    memory = folder / "trackers" / f"{name}.json"
    try:
        told: dict[str, Any] = read_json(memory) or {}
    except UserError:
        told = {}
    before = json.dumps(told)
    count = 0
    try:
        for outcome in read_results(folder).outcomes:
            for _ in _tell(outcome, folder, tracker, told):
                count += 1
    finally:
        if json.dumps(told) != before:
            memory.parent.mkdir(exist_ok=True)
            write_json(memory, told, durable=False)
    return count


def _tell(outcome: Outcome, folder: Path, tracker: Tracker, told: dict[str, Any]) -> Iterator[None]:
    """Tell about one trial; yields after each thing that was told and noted."""
    cell = outcome.cell
    if outcome.status == "skipped":
        return
    state = told.get(cell["id"], {})
    if state.get("ended"):
        return
    records = list(_records(RunFolder(folder).trial(cell["folder"]).metrics))
    ended = outcome.status in ("done", "failed", "oom")
    if not records and not ended:
        return
    if "name" not in state:
        state = {"name": tracker.begin(cell), "epoch": 0}
        told[cell["id"]] = state
        yield
    for record in records:
        # A trial that resumed has written some epochs again, with the same numbers.
        if record["epoch"] > state["epoch"]:
            tracker.record(state["name"], record["step"], _values(record))
            state["epoch"] = record["epoch"]
            yield
    if ended:
        tracker.end(state["name"], outcome, _final(outcome))
        state["ended"] = outcome.status == "done"  # what failed may be run again
        yield


def _records(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            return  # a line that is being written
        if (
            isinstance(record, dict)
            and isinstance(record.get("epoch"), int)
            and isinstance(record.get("step"), int)
        ):
            yield record


def _values(record: Mapping[str, Any]) -> dict[str, float]:
    found = {name: record.get(name) for name in ("train_loss", "lr")}
    for group in ("val", "test", "diagnostics"):
        found |= {f"{group}/{name}": value for name, value in (record.get(group) or {}).items()}
    return {name: float(value) for name, value in found.items() if value is not None and is_number(value)}


def _final(outcome: Outcome) -> dict[str, float]:
    found = {f"cost/{name}": float(value) for name, value in outcome.cost.items() if is_number(value)}
    return found | outcome.evaluated
