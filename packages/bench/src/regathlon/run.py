"""Runs a suite in a directory: what is not done yet, several trials at a time, each on its own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console

from regathlon import plugins, yaml_text
from regathlon.estimate import Estimator
from regathlon.evaluations import pending
from regathlon.executors import Ended, Executor, Options
from regathlon.files import explained, write_json, write_text
from regathlon.locks import locked
from regathlon.plan import Plan, Trial
from regathlon.progress import Progress
from regathlon.results import Results, outcome, read_results
from regathlon.store import RunFolder, TrialState
from regathlon_core.errors import UserError

LAZY_IMPORTS = ("torch._dynamo",)
"""What torch imports on first use of an optimizer; the fork server does it once instead of every trial."""


ONE_KEYSTROKE = 0.3
"""Seconds within which a second signal is the same Ctrl-C, passed on by a launcher such as ``uv run``."""


class StoppedNow(BaseException):
    """A second Ctrl-C: everything ends at once."""


@dataclass(frozen=True)
class Report:
    """How a run went.

    Attributes:
        results: All outcomes of the suite.
        ran: How many trials were started.
        interrupted: Whether it was asked to stop.
    """

    results: Results
    ran: int
    interrupted: bool


def run_plan(plan: Plan, out: Path, options: Options, executor: str, console: Console) -> Report:
    """Run a plan's trials that are not done, in ``out``.

    Trials that failed are run again: one that failed by itself from the beginning, one that was killed or ran
    out of memory from its checkpoint.

    Args:
        plan: What to run.
        out: The run directory.
        options: How to execute.
        executor: A name from ``regathlon list executors``.
        console: For progress.

    Raises:
        UserError: The directory cannot be written, belongs to another suite or is in use.
    """
    run = RunFolder(out)
    executor_class = plugins.load("executor", executor)
    with ExitStack() as held:
        with explained(out):
            (out / "trials").mkdir(parents=True, exist_ok=True)
            _refuse_other_suite(run, plan)
            busy = f"Process {{pid}} is running in {out} already. Wait for it, or give another --out."
            held.enter_context(locked(out / "run.lock", busy=busy))
            write_text(run.suite_file, yaml_text.write(plan.suite.raw))
            write_json(out / "plan.json", plan.record())
        return _run(plan, run, options, executor_class, console)


def _refuse_other_suite(run: RunFolder, plan: Plan) -> None:
    try:
        other = run.plan()["suite"]
    except UserError:
        return
    if other != plan.suite.name:
        raise UserError(
            f"{run.path} holds a run of the suite {other!r}. Give {plan.suite.name!r} another --out."
        )


def _run(
    plan: Plan, run: RunFolder, options: Options, executor_class: type[Executor], console: Console
) -> Report:
    records = {trial.id: trial.record() for trial in plan.trials}
    estimator = Estimator()
    todo: list[Trial] = []
    for trial in plan.trials:
        record = records[trial.id]
        state = run.trial(record["folder"]).state()
        left = pending(run.trial(record["folder"]), trial.evaluations)
        if state.status == "done" and state.result is not None and not left:
            estimator.observe(record, float(state.result.get("wall_seconds") or 0.0))
        else:
            todo.append(trial)
    if not todo:
        return Report(read_results(run.path), ran=0, interrupted=False)
    executor = executor_class(options, modules(todo))
    cells = [records[trial.id] for trial in todo]
    done = len(records) - len(todo)
    progress = Progress(console, cells, done, options.jobs, estimator)
    with _stop_signals() as stop, progress:
        try:
            _work(cells, run, executor, options.jobs, progress, stop)
        finally:
            executor.kill()
    return Report(read_results(run.path), ran=len(todo), interrupted=stop.is_set())


def _work(
    cells: Sequence[dict[str, object]],
    run: RunFolder,
    executor: Executor,
    jobs: int,
    progress: Progress,
    stop: threading.Event,
) -> None:
    waiting = list(reversed(cells))
    running: dict[Path, dict[str, object]] = {}
    asked = False
    progress.say(f"{len(cells)} trials to run, {jobs} at a time; importing what they need")
    while running or (waiting and not asked):
        while waiting and len(running) < jobs and not stop.is_set():
            cell = waiting.pop()
            folder = run.trial(str(cell["folder"]))
            folder.write_record(cell)
            if folder.state().status != "done" or not folder.model.exists():
                folder.forget_result()  # else only evaluations are left to do
            progress.started(cell, folder)
            running[folder.path] = cell
            executor.submit(folder.path)  # the first one waits for the fork server's imports
            progress.say("")
        if stop.is_set() and not asked:
            asked = True
            progress.say("stopping: waiting for checkpoints (Ctrl-C again stops now)")
            executor.stop()
        for ended in executor.wait(0.25):
            _settle(running.pop(ended.folder), ended, run, progress)


def _settle(cell: dict[str, object], ended: Ended, run: RunFolder, progress: Progress) -> None:
    """Take note of a trial's end; write its result where its process could not."""
    folder = run.trial(str(cell["folder"]))
    state = folder.state()
    if state.status not in ("done", "failed", "oom"):
        if ended.stopped:
            progress.stopped(cell)
            return
        try:
            folder.write_result({"id": cell["id"], "status": ended.status, "reason": ended.died})
            state = folder.state()
        except OSError as error:  # a full disk
            state = TrialState(ended.status, f"{ended.died}; and its result cannot be written: {error}")
    progress.ended(outcome(cell, state), folder.path)


def modules(trials: Sequence[Trial]) -> list[str]:
    """Return the modules that the trials will import, for the fork server."""
    found = {
        declared.implementation.partition(":")[0]
        for trial in trials
        for declared in (trial.task, trial.model, *trial.regularizer, *trial.evaluations)
    }
    return ["torch", *LAZY_IMPORTS, "regathlon.cli", "regathlon.worker", *sorted(found)]


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C (or SIGTERM, SIGHUP) into an event, and a second one into ``StoppedNow``."""
    stop = threading.Event()
    first = 0.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if not stop.is_set():
            first = time.monotonic()
            stop.set()
        elif time.monotonic() - first > ONE_KEYSTROKE:
            raise StoppedNow

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), handle) for name in names}
    try:
        yield stop
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
