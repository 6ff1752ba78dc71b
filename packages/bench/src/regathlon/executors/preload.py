"""Imported by the fork server alone: imports everything that the trials of a run will need.

Torch takes seconds to import. The fork server does it once, and every trial's process is a fork that has it
already. A module that cannot be imported is left for its trials to complain about.
"""

from __future__ import annotations

import importlib
import os
import signal
import traceback

from regathlon.executors import PRELOAD_LOG, PRELOAD_MODULES
from regathlon.executors.memory import keep_freed_memory


def _preload() -> None:
    # A signal to the whole process group means "stop" to the trials; were the server to end of it, they would
    # die with it before they have saved their state. It ends when the runner does.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log = os.environ.get(PRELOAD_LOG)
    if log:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
    for name in filter(None, os.environ.get(PRELOAD_MODULES, "").split(",")):
        try:
            importlib.import_module(name)
        except Exception:
            traceback.print_exc()


_preload()
keep_freed_memory()
