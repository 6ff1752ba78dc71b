"""Locks that end with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from regathlon_core.errors import UserError


@contextlib.contextmanager
def locked(path: Path, *, busy: str, patience: float = 0.0) -> Iterator[None]:
    """Hold an exclusive lock on a file, in which the holder's process id stands.

    Args:
        path: The lock file; made where it is missing, and left.
        busy: What to say where another process holds it; ``{pid}`` is replaced.
        patience: Seconds to wait for it.

    Raises:
        UserError: Another process holds it.
    """
    with path.open("a+", encoding="utf-8") as file:
        deadline = time.monotonic() + patience
        while not _try_lock(file.fileno()):
            if time.monotonic() >= deadline:
                file.seek(0)
                raise UserError(busy.format(pid=file.read().strip() or "unknown"))
            time.sleep(0.05)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
