"""``regathlon track``, and the processes that ``regathlon run --tracker`` starts beside itself."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from regathlon.commands.output import err, out
from regathlon.files import explained
from regathlon.results import read_results
from regathlon.trackers import Tracker, find, synchronize
from regathlon_core.errors import UserError

POLL_SECONDS = 2.0
PATIENCE_SECONDS = 30.0
"""How long a run waits at its end for a tracker to catch up."""


def track(folder: Path, name: str, target: str | None, *, follow: bool) -> None:
    """Tell a tracker about a run: what there is, or until standard input ends."""
    kind = find(name)
    if not follow:
        count = synchronize(folder, kind(target, folder, read_results(folder).suite), name)
        out().print(f"{name}: {count} new records of {folder}", soft_wrap=True)
        return
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    tracker: Tracker | None = None
    failed = True
    while True:
        last = ended.wait(POLL_SECONDS)
        try:
            tracker = tracker or kind(target, folder, read_results(folder).suite)
            synchronize(folder, tracker, name)
            failed = False
        except Exception as error:  # what cannot be told now is told later
            err().print(f"{type(error).__name__}: {error}", soft_wrap=True)
            failed = True
        if last:
            break
    if failed:
        raise UserError(f"{name} was not told everything.")


@contextlib.contextmanager
def beside(folder: Path, trackers: Sequence[str]) -> Iterator[None]:
    """Follow a run with trackers, each in a process of its own that trials neither see nor wait for.

    Args:
        folder: The run directory.
        trackers: Each as the user wrote it, ``NAME`` or ``NAME=TARGET``.

    Raises:
        UserError: There is no such tracker, or its package is missing.
    """
    calls = [tracker.partition("=")[::2] for tracker in trackers]
    for name, _ in calls:
        find(name)
    with contextlib.ExitStack() as open_files:
        processes = []
        for name, target in calls:
            with explained(folder):
                (folder / "trackers").mkdir(parents=True, exist_ok=True)
            log = open_files.enter_context((folder / "trackers" / f"{name}.log").open("a", encoding="utf-8"))
            command = [sys.executable, "-m", "regathlon", "track", str(folder), "--to", name, "--follow"]
            command += ["--target", target] if target else []
            # In a session of its own: Ctrl-C is for the run, and the tracker shall still see how it ended.
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )
            processes.append((name, process))
        try:
            yield
        finally:
            for name, process in processes:
                _finish(folder, name, process)


def _finish(folder: Path, name: str, process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    log = folder / "trackers" / f"{name}.log"
    try:
        code = process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        code = None
    if code != 0:
        said = "did not end in time" if code is None else f"ended with exit code {code}"
        err().print(f"The tracker {name} {said} ({log}); no trial was touched. Tell it again with: "
                    f"regathlon track {folder} --to {name}", soft_wrap=True)  # fmt: skip
