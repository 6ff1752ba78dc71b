"""Where trials run. An executor is found through the entry-point group ``regathlon.executors``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

PRELOAD_MODULES = "REGATHLON_PRELOAD"
"""Environment variable: names of the modules that the fork server imports, separated by commas."""
PRELOAD_LOG = "REGATHLON_PRELOAD_LOG"
"""Environment variable: where to write what the imports say, so as not to tear the progress display."""


@dataclass(frozen=True)
class Options:
    """How trials are executed; nothing here changes their numbers or their identity.

    Attributes:
        jobs: Trials at the same time.
        data: Folder of downloaded data sets.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"`` for CUDA where there is one.
        checkpoint_seconds: Seconds between checkpoints.
        log: File for what importing the implementations says.
    """

    jobs: int
    data: Path | None = None
    device: str = "cpu"
    checkpoint_seconds: float = 30.0
    log: Path | None = None


@dataclass(frozen=True)
class Ended:
    """A trial's process has ended.

    Attributes:
        folder: The trial's folder.
        status: ``failed`` or ``oom`` where the process could not say it itself by a result file.
        died: What to say in that case; None where the process ended by itself.
        stopped: Whether it ended because it was asked to.
    """

    folder: Path
    status: str = "failed"
    died: str | None = None
    stopped: bool = False


class Executor(Protocol):
    """Starts trials in their folders and says when they have ended; results are the files they leave."""

    def __init__(self, options: Options, preload: Sequence[str]) -> None:
        """Get ready; ``preload`` names the modules that the trials will import."""

    def submit(self, folder: Path) -> None:
        """Start the trial in a folder; called only while fewer than ``options.jobs`` are running."""

    def wait(self, seconds: float) -> list[Ended]:
        """Return the trials that have ended since, waiting for one at most so long."""
        ...

    def stop(self) -> None:
        """Ask all running trials to save their state and stop."""

    def kill(self) -> None:
        """End all running trials now."""
