"""Trials on this machine: a process each, forked from a server that has imported what they need."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from regathlon.executors import PRELOAD_LOG, PRELOAD_MODULES, Ended, Options
from regathlon.executors.child import main
from regathlon.store import TrialFolder

_ONE_THREAD = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True)
class _Running:
    process: ForkServerProcess
    folder: Path
    slot: int


class LocalExecutor:
    """Runs every trial in a process of its own, so that a crash or a changed global state stays in it.

    Args:
        options: How many at a time, and how.
        preload: What the fork server imports before the first trial.
    """

    def __init__(self, options: Options, preload: Sequence[str]) -> None:
        self._options = options
        self._running: list[_Running] = []
        self._stopping = False
        # The server inherits the environment when it starts, before anything of torch is imported there.
        for variable in _ONE_THREAD:
            os.environ[variable] = "1"
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        os.environ[PRELOAD_MODULES] = ",".join(preload)
        if options.log is not None:
            os.environ[PRELOAD_LOG] = str(options.log)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["regathlon.executors.preload"])
        # Ctrl-C reaches the whole process group; trials inherit from the server that they ignore it.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            forkserver.ensure_running()
        finally:
            signal.signal(signal.SIGINT, before)

    def submit(self, folder: Path) -> None:
        """Start the trial in a folder."""
        taken = {running.slot for running in self._running}
        slot = next(slot for slot in range(self._options.jobs) if slot not in taken)
        device = _device(self._options.device, slot)
        process = self._context.Process(target=main, args=(folder, self._options, device), daemon=False)
        process.start()
        self._running.append(_Running(process, folder, slot))

    def wait(self, seconds: float) -> list[Ended]:
        """Return the trials that have ended, waiting for one at most so long."""
        if self._stopping:  # again and again: a process that has only just been forked does not listen yet
            self.stop()
        connection.wait([running.process.sentinel for running in self._running], timeout=seconds)
        ended = [running for running in self._running if not running.process.is_alive()]
        self._running = [running for running in self._running if running not in ended]
        return [self._explain(running) for running in ended]

    def stop(self) -> None:
        """Ask all running trials to save their state and stop."""
        self._stopping = True
        for running in self._running:
            running.process.terminate()

    def kill(self) -> None:
        """End all running trials now."""
        self._stopping = True
        for running in self._running:
            running.process.kill()
        for running in self._running:
            running.process.join(timeout=5)
        self._running.clear()

    def _explain(self, running: _Running) -> Ended:
        running.process.join()
        code = running.process.exitcode or 0
        running.process.close()
        if self._stopping:  # a signal may have met it before it could handle one
            return Ended(running.folder, stopped=True)
        return Ended(running.folder, died=explain_exit(code, TrialFolder(running.folder)))


def explain_exit(code: int, folder: TrialFolder) -> str:
    """Return in words how a process ended that left no result.

    Args:
        code: Its exit code; negative for a signal.
        folder: The trial's, for what it last said of its memory.
    """
    beat = folder.heartbeat() or {}
    if code == -signal.SIGKILL:
        held = f"; it held {beat['rss_mb']:.0f} MiB when last seen" if beat.get("rss_mb") else ""
        return (
            f"killed by the system (SIGKILL), most likely because memory ran out{held}. "
            "Fewer --jobs leave more for each; the next run goes on from its checkpoint"
        )
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
        what = {
            "SIGSEGV": "crashed with a segmentation fault",
            "SIGABRT": "aborted",
            "SIGBUS": "crashed",
        }.get(name)
        return f"{what or 'killed'} ({name}); the Python stack is in {folder.log.name}"
    return f"the process ended with exit code {code} and left no result; see {folder.log.name}"


def visible_gpus() -> int:
    """Return how many NVIDIA GPUs the driver shows to this process, without importing torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return len([name for name in chosen.split(",") if name.strip() and name.strip() != "-1"])
    folder = Path("/proc/driver/nvidia/gpus")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def _device(wanted: str, slot: int) -> str:
    return f"{wanted}:{slot % max(visible_gpus(), 1)}" if wanted in ("cuda", "auto") else wanted
