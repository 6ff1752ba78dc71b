"""What a person sees while a suite runs: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from regathlon.estimate import Estimator, duration
from regathlon.results import FAILURES, Outcome
from regathlon.store import TrialFolder

Cell = Mapping[str, Any]

_SHOWN = 12


@dataclass
class _Work:
    cell: Cell
    folder: TrialFolder
    since: float
    share: float = 0.0
    doing: str = "starting"

    def look(self) -> None:
        """Read the trial's heartbeat."""
        beat = self.folder.heartbeat() or {}
        if float(beat.get("time") or 0) < self.since:
            return
        total = float(beat.get("total_steps") or 0)
        self.share = float(beat.get("step") or 0) / total if total else 0.0
        self.doing = f"{self.share:4.0%}" if total else "reading data"


class Progress:
    """Shows a run. A context manager: the display goes when it ends.

    Args:
        console: On standard error.
        todo: Cells of the trials to run.
        done: How many of the suite's trials are done already.
        jobs: How many run at a time.
        estimator: Knows how long earlier trials took.
    """

    def __init__(
        self, console: Console, todo: Sequence[Cell], done: int, jobs: int, estimator: Estimator
    ) -> None:
        self._console, self._jobs, self._estimator = console, jobs, estimator
        self._waiting = {cell["id"]: cell for cell in todo}
        self._work: dict[str, _Work] = {}
        self._total = len(todo) + done
        self._finished = done
        self._failed = 0
        self._note = ""
        self._started = time.time()
        self._looked = 0.0
        self._live = (
            Live(self, console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        )

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, cell: Cell, folder: TrialFolder) -> None:
        """Show a trial as running."""
        self._waiting.pop(cell["id"], None)
        self._work[cell["id"]] = _Work(cell, folder, time.time())

    def ended(self, outcome: Outcome, folder: Path) -> None:
        """Show that a trial has ended, and why where it failed."""
        work = self._work.pop(outcome.cell["id"])
        # Its own measure: the wait for the fork server's imports is paid once, not by every trial.
        seconds = float((outcome.result or {}).get("wall_seconds") or time.time() - work.since)
        self._finished += 1
        if outcome.status == "done":
            self._estimator.observe(outcome.cell, seconds)
            score = outcome.score("last")
            said = f"{outcome.metric} {score:.4f}" if score is not None else "done"
            if self._live is None:
                self._line(f"{_label(outcome.cell)}: {said} ({duration(seconds)})")
        elif outcome.status in FAILURES:
            self._failed += 1
            said = f"{_label(outcome.cell)} {outcome.status}: {outcome.reason}"
            where = f"log: {folder / 'log.txt'}"
            if self._live is None:
                self._line(f"{said} ({where})")
            else:
                self._console.print(
                    Text(said, style="red"), Text(f"  {where}", style="dim"), sep="\n", soft_wrap=True
                )

    def stopped(self, cell: Cell) -> None:
        """Show that a trial was stopped on request."""
        self._work.pop(cell["id"], None)

    def say(self, note: str) -> None:
        """Show what the run is about to do."""
        self._note = note
        if note and self._live is None:
            self._console.print(note, highlight=False, soft_wrap=True)

    def _line(self, text: str) -> None:
        left = self._left()
        until = f"; {left}" if left and self._waiting else ""
        self._console.print(
            f"[{self._finished}/{self._total}] {text}{until}", markup=False, highlight=False, soft_wrap=True
        )

    def _left(self) -> str:
        now = time.time()
        running = [(work.cell, work.share, now - work.since) for work in self._work.values()]
        seconds = self._estimator.remaining(self._waiting.values(), running, self._jobs)
        return f"about {duration(seconds)} left" if seconds is not None else ""

    def __rich__(self) -> RenderableType:
        now = time.time()
        if now - self._looked > 0.2:
            self._looked = now
            for work in list(self._work.values()):
                work.look()
        share = sum(work.share for work in list(self._work.values()))
        head = Table.grid(padding=(0, 2, 0, 0))
        words = Text.assemble((f"{self._finished}/{self._total} trials", "bold"))
        if self._failed:
            words.append(f", {self._failed} failed", style="red")
        elapsed = duration(now - self._started)
        head.add_row(
            ProgressBar(total=max(self._total, 1), completed=self._finished + share, width=30),
            words,
            Text(elapsed, style="dim"),
            Text(self._left(), style="dim"),
        )
        rows = Table.grid(padding=(0, 2, 0, 0))
        for work in list(self._work.values())[:_SHOWN]:
            rows.add_row(
                ProgressBar(total=1.0, completed=work.share, width=10),
                Text(work.doing, style="dim"),
                Text(_label(work.cell), overflow="ellipsis", no_wrap=True),
            )
        parts: list[RenderableType] = [head, rows]
        if len(self._work) > _SHOWN:
            parts.append(Text(f"and {len(self._work) - _SHOWN} more", style="dim"))
        if self._note:
            parts.append(Text(self._note, style="yellow"))
        return Group(*parts)


def _label(cell: Cell) -> str:
    return f"{cell['task']} {cell['regularizer']} seed {cell['seed']}"
