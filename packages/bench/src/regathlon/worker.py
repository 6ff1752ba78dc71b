"""Runs one trial in its folder: the training, then the evaluations of its model. Imports torch."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import logging
import platform
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from regathlon.evaluating import evaluate, keep_model
from regathlon.evaluations import pending
from regathlon.executors import Options
from regathlon.files import finite, write_text
from regathlon.locks import locked
from regathlon.plan import Trial
from regathlon.results import SELECTIONS
from regathlon.store import TrialFolder
from regathlon_core.engine import EpochRecord, FitResult, Interrupted, fit
from regathlon_core.errors import UserError
from regathlon_core.regularizer import build_regularizer
from regathlon_core.rng import global_stream
from regathlon_core.task import Task
from regathlon_data import DataError

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 0.5


def run_trial(folder: Path, options: Options, *, device: str, stop: threading.Event) -> None:
    """Train the trial in a folder, and leave its result there, whatever happens short of a crash.

    Args:
        folder: Holds ``trial.json``; perhaps a checkpoint to go on from.
        options: How to execute it.
        device: ``"cpu"``, ``"cuda:0"``, or ``"auto:0"`` for CUDA where there is one.
        stop: Set from outside to have the state saved and the training stopped.
    """
    torch.set_num_threads(1)
    with contextlib.suppress(RuntimeError):  # only once per process
        torch.set_num_interop_threads(1)
    at = TrialFolder(folder)
    started = time.monotonic()
    with _logging(), locked(at.lock, busy="Process {pid} is still training this trial.", patience=10):
        logger.info("process started, torch %s", torch.__version__)
        for leftover in folder.glob("*.partial"):  # of a process that was killed while it wrote
            leftover.unlink(missing_ok=True)
        observer = _Observer(at, stop)
        with observer.beating():
            prepare = functools.cache(functools.partial(_prepared, at, options))
            if at.state().status != "done":
                outcome = _trained(at, prepare, options, device, observer)
                if outcome is None:
                    return
                at.write_result(
                    {
                        "id": at.record()["id"],
                        **outcome,
                        "wall_seconds": time.monotonic() - started,
                        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                        "environment": environment(device),
                    }
                )
                logger.info("%s", outcome["status"])
            if at.state().status == "done":
                at.checkpoint.unlink(missing_ok=True)
                _evaluate(at, prepare, options, device, stop)


def _prepared(at: TrialFolder, options: Options) -> tuple[Trial, Task]:
    """Return the trial in a folder and its task, with the data loaded."""
    trial = Trial.from_record(at.record())
    return trial, trial.task.of_seed(trial.seed).build(options.data)


def _trained(
    at: TrialFolder,
    prepare: Callable[[], tuple[Trial, Task]],
    options: Options,
    device: str,
    observer: _Observer,
) -> dict[str, Any] | None:
    """Train and return what goes into the result; None where it was interrupted."""
    try:
        trial, task = prepare()
        result = _train(trial, task, at, options, _device(device), observer)
        if trial.evaluations:
            keep_model(at, result.model)
        return {"status": "done", "reason": None, **_measured(trial, result), "pace": observer.pace()}
    except Interrupted as interruption:
        logger.info("%s", interruption)
        return None
    except BaseException as error:
        status, reason = _status(error), _reason(error)
        logger.error("%s\n%s", reason, traceback.format_exc())
        if status == "failed":
            at.checkpoint.unlink(missing_ok=True)  # what failed by itself starts from the beginning
        return {"status": status, "reason": reason}


def _evaluate(
    at: TrialFolder,
    prepare: Callable[[], tuple[Trial, Task]],
    options: Options,
    device: str,
    stop: threading.Event,
) -> None:
    left = pending(at, Trial.from_record(at.record()).evaluations)
    if left:
        trial, task = prepare()
        evaluate(
            at,
            left,
            task=task,
            model=trial.model,
            seed=trial.seed,
            data=options.data,
            device=_device(device),
            stop=stop,
        )


def _train(
    trial: Trial, task: Task, at: TrialFolder, options: Options, device: torch.device, observer: _Observer
) -> FitResult:
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)
    observer.steps_per_epoch = len(task.order(0, trial.seed, trial.recipe.batch_size))

    def train() -> FitResult:
        with global_stream(trial.seed, "init"):
            model = trial.model.build(task)
        return fit(
            model,
            task,
            build_regularizer(trial.regularizer),
            trial.recipe,
            seed=trial.seed,
            device=device,
            checkpoint=at.checkpoint,
            checkpoint_seconds=options.checkpoint_seconds,
            # On the CPU a trial has one core, which the preparing thread would take from the training.
            prefetch=2 if device.type == "cuda" else 0,
            observer=observer,
        )

    try:
        return train()
    except Interrupted:
        raise
    except Exception as error:
        if observer.began or not at.checkpoint.exists():
            raise
        damaged = at.checkpoint.with_name("checkpoint.damaged.pt")
        at.checkpoint.replace(damaged)
        logger.warning("%s Set aside as %s; training starts again.", error, damaged.name)
        return train()


class _Observer:
    """Writes what a training does into its folder."""

    def __init__(self, at: TrialFolder, stop: threading.Event) -> None:
        self.at, self.stop = at, stop
        self.began = False
        self.progress: dict[str, Any] = {"step": 0, "total_steps": 0}
        self.steps_per_epoch = 0
        self._stepped = time.monotonic()
        self._evaluations: list[float] = []

    def pace(self) -> dict[str, Any]:
        """Return what a price needs beside the cost of a step: for ``regathlon plan``."""
        seconds = sum(self._evaluations) / len(self._evaluations) if self._evaluations else 0.0
        return {"steps_per_epoch": self.steps_per_epoch, "evaluation_seconds": seconds}

    def started(self, step: int, total_steps: int, history: tuple[EpochRecord, ...]) -> None:
        """Bring ``metrics.jsonl`` to the checkpoint's state: a killed process may have written further."""
        self.began = True
        self.progress = {"step": step, "total_steps": total_steps}
        write_text(self.at.metrics, "".join(_line(record) for record in history))
        logger.info("training from step %d of %d", step, total_steps)

    def stepped(self, step: int, total_steps: int) -> None:
        """Remember how far it is."""
        self.progress = {"step": step, "total_steps": total_steps}
        self._stepped = time.monotonic()

    def epoch_ended(self, record: EpochRecord) -> None:
        """Append the epoch to ``metrics.jsonl``."""
        if record.val or record.test:
            self._evaluations.append(time.monotonic() - self._stepped)
        with self.at.metrics.open("a", encoding="utf-8") as file:
            file.write(_line(record))

    def stop_requested(self) -> bool:
        """Tell whether the runner has asked to stop."""
        return self.stop.is_set()

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Leave a heartbeat from a thread, so that a long step does not look like a dead process."""
        done = threading.Event()

        def beat() -> None:
            while True:
                with contextlib.suppress(OSError):
                    self.at.write_heartbeat(**self.progress, rss_mb=_resident_mb())
                if done.wait(HEARTBEAT_SECONDS):
                    return

        thread = threading.Thread(target=beat, daemon=True, name="heartbeat")
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _line(record: EpochRecord) -> str:
    return json.dumps(finite(asdict(record)), allow_nan=False) + "\n"


def _measured(trial: Trial, result: FitResult) -> dict[str, Any]:
    selections: dict[str, Any] = {}
    for selection in SELECTIONS:
        try:
            chosen = result.select(
                selection,  # type: ignore[arg-type]
                trial.task.metric,
                lower_is_better=trial.task.lower_is_better,
            )
        except UserError as error:
            selections[selection] = {"unavailable": error.message}
        else:
            selections[selection] = {
                "epoch": chosen.epoch,
                "val": dict(chosen.val),
                "test": dict(chosen.test),
            }
    return {
        "selections": selections,
        "history": [asdict(record) for record in result.history],
        "cost": asdict(result.cost),
    }


def _status(error: BaseException) -> str:
    return "oom" if isinstance(error, MemoryError | torch.OutOfMemoryError) else "failed"


def _reason(error: BaseException) -> str:
    """Return the first line of what went wrong, in words."""
    if isinstance(error, SystemExit):
        return f"the trial ended its process itself (sys.exit({error.code!r}))"
    message = str(error).strip().splitlines()
    first = message[0] if message else ""
    if _status(error) == "oom":
        return f"out of memory: {first}" if first else "out of memory"
    if isinstance(error, UserError | DataError):
        return first
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _device(wanted: str) -> torch.device:
    kind, _, index = wanted.partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("There is no CUDA device that torch can use here. (More: regathlon doctor)")
    return torch.device("cuda", int(index or 0) % torch.cuda.device_count())


def environment(device: str) -> Mapping[str, Any]:
    """Return what a result was computed with: versions and hardware."""
    names = {"numpy", "torch", "torchvision", "torch-geometric"}
    packages = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.name
        if name in names or name.startswith("regathlon"):
            packages[name] = distribution.version
    try:
        at = _device(device)
        hardware = torch.cuda.get_device_name(at) if at.type == "cuda" else "cpu"
    except Exception:
        hardware = device
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": hardware,
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "host": platform.node(),
        "packages": dict(sorted(packages.items())),
    }


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _resident_mb() -> float | None:
    with contextlib.suppress(OSError, IndexError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * 4096 / 2**20
    return None


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """Send logging and warnings of everything to standard error, which is the trial's log."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.captureWarnings(True)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield
