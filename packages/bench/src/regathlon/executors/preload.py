"""Imported by the fork server alone: imports everything that the trials of a run will need.

Torch takes seconds to import. The fork server does it once, and every trial's process is a fork that has it
already. A module that cannot be imported is left for its trials to complain about.

It also has glibc keep what trials free: by default, a map of some megabytes goes back to the system and is asked for
again in every step, page by page, which takes a tenth of a small network's time on a CPU.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import traceback

from regathlon.executors import PRELOAD_LOG, PRELOAD_MODULES

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h


def _keep_freed_memory() -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        libc.malloc_trim(0)  # what importing left, which is no trial's
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


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
_keep_freed_memory()
