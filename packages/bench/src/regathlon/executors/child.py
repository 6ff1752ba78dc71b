"""What a trial's process does before and after the trial: signals, output, and never outliving its runner."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import threading
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path

from regathlon.executors import Options

_PR_SET_PDEATHSIG = 1


def main(folder: Path, options: Options, device: str) -> None:
    """Run the trial in a folder; called in a process of its own.

    Args:
        folder: The trial's folder.
        options: How to execute it.
        device: Where, with the index of a CUDA device.
    """
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner decides what Ctrl-C means
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    _die_with_the_runner()
    descriptor = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115  lives as long as we
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    faulthandler.enable()  # a crash leaves the Python stack in the log

    from regathlon.worker import run_trial

    run_trial(folder, options, device=device, stop=stop)


def _die_with_the_runner() -> None:
    """End this process when the fork server or the runner ends, so that no orphan writes beside a new run."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    runner = parent_process()
    if runner is not None:

        def watch() -> None:
            wait([runner.sentinel])
            os._exit(1)

        threading.Thread(target=watch, daemon=True, name="watch runner").start()
