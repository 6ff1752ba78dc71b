"""``regathlon run``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from regathlon import datasets, plugins
from regathlon.analysis import analyze
from regathlon.cli import DONE, INTERRUPTED, SOME_FAILED
from regathlon.commands.output import err, out
from regathlon.commands.tracking import beside
from regathlon.estimate import duration
from regathlon.executors import Options
from regathlon.executors.local import visible_gpus
from regathlon.plan import Plan, make_plan
from regathlon.report import print_report
from regathlon.results import FAILURES
from regathlon.run import StoppedNow, cores, run_plan
from regathlon.store import RunFolder
from regathlon.suite import Suite
from regathlon.suite_files import load_suite
from regathlon_core.errors import UserError


def run_suite(
    source: str,
    *,
    folder: Path | None,
    jobs: int | None,
    executor: str,
    overrides: Sequence[str],
    data: Path | None,
    device: str,
    checkpoint_seconds: float,
    trackers: Sequence[str] = (),
) -> int:
    """Run a suite and return the exit code; see ``regathlon run --help``."""
    started = time.monotonic()
    suite, folder = load(source, folder, overrides)
    folder = folder or Path("runs") / suite.name
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs must be at least 1, not {jobs}.")
    if not checkpoint_seconds >= 0:
        raise UserError(f"--checkpoint-every must be a number of seconds, not {checkpoint_seconds}.")
    plugins.load("executor", executor)
    root = datasets.root(data)
    plan = make_plan(suite, root)
    gpus = 0 if device == "cpu" else visible_gpus()
    options = Options(
        jobs=min(jobs or gpus or cores(), max(len(plan.trials), 1)),
        data=root,
        device=device if device == "cuda" or gpus else "cpu",
        checkpoint_seconds=checkpoint_seconds,
        log=folder.absolute() / "runner.log",
    )
    console = err()
    if not plan.trials:
        for line in skipped(plan):
            console.print(f"skipped: {line}", soft_wrap=True)
        raise UserError(f"Nothing of the suite {suite.name!r} can run here: every cell is skipped.")
    try:
        with beside(folder, trackers):
            done = run_plan(plan, folder, options, executor, console)
    except StoppedNow:
        console.print(f"Stopped now. Go on with: regathlon run {folder}", soft_wrap=True)
        return INTERRUPTED
    counts = done.results.counts()
    failed = sum(counts[status] for status in FAILURES)
    left = counts["planned"] + counts["running"]
    if done.interrupted and left:
        console.print(f"Stopped; {left} trials are left. Go on with: regathlon run {folder}", soft_wrap=True)
        return INTERRUPTED
    print_report(analyze(done.results), out())
    if not done.ran:
        console.print(f"Nothing to do: all {counts['done']} trials of {suite.name} are done.", soft_wrap=True)
    else:
        took = duration(time.monotonic() - started)
        console.print(
            f"Ran {done.ran} trials in {took}, {failed or 'none'} failed. Results: {folder}", soft_wrap=True
        )
    for outcome in done.results.of(*FAILURES):
        log = RunFolder(folder).trial(outcome.cell["folder"]).log
        console.print(f"{outcome.status}: {log}", style="red", soft_wrap=True)
    if not done.ran or not failed:
        console.print(f"Export: regathlon export {folder} --format csv", style="dim", soft_wrap=True)
    return SOME_FAILED if failed or left else DONE


def load(source: str, given: Path | None, overrides: Sequence[str]) -> tuple[Suite, Path | None]:
    """Load a suite; a run directory stands for the suite that was run in it."""
    if Path(source).is_dir() and (Path(source) / "suite.yaml").is_file():
        folder = Path(source)
        try:
            name = RunFolder(folder).plan()["suite"]
        except UserError:
            name = folder.name
        return load_suite(folder, overrides, name=name), given or folder
    return load_suite(source, overrides), given


def skipped(plan: Plan) -> Iterator[str]:
    """Yield a line per task and reason."""
    groups: dict[tuple[str, str], dict[str, int]] = {}
    for cell in plan.skipped:
        regularizers = groups.setdefault((cell.names["task"], str(cell.reason)), {})
        regularizers[cell.names["regularizer"]] = regularizers.get(cell.names["regularizer"], 0) + 1
    for (task, reason), regularizers in groups.items():
        yield f"{task} with {', '.join(regularizers)} ({sum(regularizers.values())} cells): {reason}"
