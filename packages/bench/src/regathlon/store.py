"""A run directory: what it holds, and what can be read from it however it was left.

::

    DIR/suite.yaml         the suite as resolved        DIR/plan.json   its cells (a cache of planning)
    DIR/run.lock           held while a run works       DIR/runner.log  what imports said
    DIR/trials/<name>/     trial.json     what it is, enough to run it again
                           metrics.jsonl  one line per epoch, appended
                           checkpoint.pt  where to go on from
                           status.json    heartbeat of the process at work
                           result.json    written last: done, failed or oom
                           model.pt       weights, where the suite has evaluations
                           evaluations/   one file per evaluation; their pictures in pictures/
                           log.txt        everything it said
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regathlon.files import read_json, write_json
from regathlon_core.errors import UserError

FORMAT = 1
STALE_SECONDS = 30.0
"""A heartbeat older than this belongs to a process that is gone or stuck."""


@dataclass(frozen=True)
class TrialFolder:
    """The folder of one trial."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """State to resume from."""
        return self.path / "checkpoint.pt"

    @property
    def log(self) -> Path:
        """Everything that the trial said."""
        return self.path / "log.txt"

    @property
    def metrics(self) -> Path:
        """One JSON line per epoch."""
        return self.path / "metrics.jsonl"

    @property
    def model(self) -> Path:
        """Weights of the trained model, kept for evaluations."""
        return self.path / "model.pt"

    @property
    def evaluations(self) -> Path:
        """Folder of what evaluations found."""
        return self.path / "evaluations"

    @property
    def pictures(self) -> Path:
        """Folder of what evaluations drew."""
        return self.path / "pictures"

    @property
    def lock(self) -> Path:
        """Held by the process that trains it."""
        return self.path / "trial.lock"

    def record(self) -> dict[str, Any]:
        """Return ``trial.json``.

        Raises:
            UserError: It is missing or damaged.
        """
        found = read_json(self.path / "trial.json")
        if found is None:
            raise UserError(f"{self.path} holds no trial.")
        return found

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Create the folder and write ``trial.json``, unless it says the same already."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            if self.record() == json.loads(json.dumps(record)):
                return
        except UserError:
            pass
        write_json(self.path / "trial.json", record)

    def result(self) -> dict[str, Any] | None:
        """Return ``result.json``; None where there is none.

        Raises:
            UserError: It is damaged or of another format.
        """
        path = self.path / "result.json"
        found = read_json(path)
        if found is None:
            return None
        if found.get("format") != FORMAT or found.get("status") not in ("done", "failed", "oom"):
            raise UserError(f"{path} is damaged or of another version.")
        if found["status"] == "done" and (missing := _incomplete(found)):
            raise UserError(f"{path} is damaged (no {missing}).")
        if not self.path.name.endswith(str(found.get("id"))):
            raise UserError(f"{path} belongs to another trial ({found.get('id')}).")
        return found

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write ``result.json``: the last thing that happens to a trial."""
        write_json(self.path / "result.json", {"format": FORMAT, **result})

    def forget_result(self) -> None:
        """Remove ``result.json``, so that the trial counts as not run."""
        (self.path / "result.json").unlink(missing_ok=True)

    def heartbeat(self) -> dict[str, Any] | None:
        """Return the last sign of life, or None."""
        try:
            return read_json(self.path / "status.json")
        except UserError:
            return None

    def write_heartbeat(self, **fields: Any) -> None:
        """Leave a sign of life."""
        beat = {"pid": os.getpid(), "host": socket.gethostname(), "time": time.time(), **fields}
        write_json(self.path / "status.json", beat, durable=False)

    def state(self) -> TrialState:
        """Return where the trial stands, whatever its files are like."""
        try:
            result = self.result()
        except UserError as error:
            return TrialState("planned", f"{error.message} It will be run again.", damaged=True)
        if result is not None:
            return TrialState(result["status"], result.get("reason"), result)
        beat = self.heartbeat()
        if beat is None:
            return TrialState("planned")
        share = float(beat.get("step") or 0) / max(float(beat.get("total_steps") or 0), 1.0)
        if _alive(beat):
            return TrialState("running", share=share)
        return TrialState("planned", f"stopped at {share:.0%}; run again to go on", share=share)


@dataclass(frozen=True)
class TrialState:
    """Where a trial stands.

    Attributes:
        status: ``planned``, ``running``, ``done``, ``failed`` or ``oom``.
        reason: In words, where there is something to say.
        result: ``result.json``, where there is one.
        share: Of the steps that are done, while running or stopped.
        damaged: Whether there is a result that cannot be used.
    """

    status: str
    reason: str | None = None
    result: Mapping[str, Any] | None = None
    share: float = 0.0
    damaged: bool = False


@dataclass(frozen=True)
class RunFolder:
    """A run directory."""

    path: Path

    def trial(self, folder: str) -> TrialFolder:
        """Return the folder of a trial."""
        return TrialFolder(self.path / "trials" / folder)

    @property
    def suite_file(self) -> Path:
        """The suite as resolved."""
        return self.path / "suite.yaml"

    def plan(self) -> dict[str, Any]:
        """Return ``plan.json``.

        Raises:
            UserError: The folder is no run directory, or the file is damaged.
        """
        try:
            found = read_json(self.path / "plan.json")
        except UserError as error:
            raise UserError(f"{error.message} It is made anew by: regathlon run {self.path}") from error
        if found is None:
            kind = "is no run directory" if self.path.is_dir() else "does not exist"
            raise UserError(f"{self.path} {kind}. A run is made by: regathlon run SUITE --out {self.path}")
        return found


def _incomplete(result: Mapping[str, Any]) -> str | None:
    """Return what a finished trial's result lacks of what reports read; None where it is whole."""
    selections = result.get("selections")
    if not isinstance(selections, dict) or not all(
        isinstance(chosen, dict) for chosen in selections.values()
    ):
        return "selections"
    for chosen in selections.values():
        if not all(isinstance(chosen.get(split, {}), dict) for split in ("val", "test")):
            return "metrics"
    if not isinstance(result.get("history"), list):
        return "history"
    return next((name for name in ("cost", "environment") if not isinstance(result.get(name), dict)), None)


def _alive(beat: Mapping[str, Any]) -> bool:
    """Tell whether the process behind a heartbeat is at work: it exists here, or beat lately elsewhere."""
    fresh = time.time() - float(beat.get("time") or 0) < STALE_SECONDS
    if beat.get("host") != socket.gethostname():
        return fresh
    try:
        os.kill(int(beat["pid"]), 0)
    except PermissionError:
        return fresh
    except (OSError, KeyError, ValueError, TypeError):
        return False
    return fresh
