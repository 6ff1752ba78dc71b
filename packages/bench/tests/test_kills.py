"""Killing runs: nothing finished is lost, no orphan goes on, and the numbers are as if left alone."""

import csv
import io
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from regathlon.cli import main

# A trial takes 1.8 s at least, so that one which has just left its first checkpoint is killed before its end.
SUITE = "tasks: [toy/blobs]\nregularizers: [noise+slow(seconds=0.1)]\nseeds: 4\n"


def command(suite: Path, out: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "regathlon", "run", str(suite), "--out", str(out)),
        *("--jobs", "2", "--checkpoint-every", "0"),
    ]


def start(suite: Path, out: Path) -> subprocess.Popen:
    return subprocess.Popen(
        command(suite, out),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def members(group: int) -> list[int]:
    """Return the living processes of a process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(path.name)) == group and alive(int(path.name)):
                found.append(int(path.name))
        except ProcessLookupError:
            continue
    return found


def numbers(out: Path, capsys) -> dict[tuple[str, str, str], str]:
    capsys.readouterr()
    assert main(["export", str(out)]) == 0
    rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
    return {(row["trial"], row["split"], row["metric"]): row["value"] for row in rows}


def results(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in out.glob("trials/*/result.json")}


@pytest.mark.slow
def test_killed_at_random_moments_and_run_again_gives_the_same_numbers(suite_file, tmp_path, capsys):
    suite, out = suite_file(SUITE), tmp_path / "killed"
    moments = random.Random(time.time_ns())
    finished: dict[str, bytes] = {}
    for _ in range(3):
        run = start(suite, out)
        trials = out / "trials"
        # Wherever it is: while it imports, between trials, in the middle of a checkpoint.
        wait_for(
            lambda trials=trials, run=run: run.poll() is not None or any(trials.glob("*/checkpoint.pt*"))
        )
        time.sleep(moments.uniform(0, 1.2))
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        assert wait_for(lambda run=run: not members(run.pid))
        assert finished.items() <= results(out).items()
        finished = results(out)
        for path in out.glob("trials/*/metrics.jsonl"):
            assert path.read_text().count("\n") <= 3
    assert subprocess.run(command(suite, out), check=False, capture_output=True).returncode == 0
    assert finished.items() <= results(out).items()
    assert "resumed" in "".join(path.read_text() for path in out.glob("trials/*/log.txt"))
    assert main(["run", str(suite), "--out", str(tmp_path / "whole")]) == 0
    assert numbers(out, capsys) == numbers(tmp_path / "whole", capsys)


@pytest.mark.slow
def test_nothing_goes_on_when_only_the_runner_is_killed(suite_file, tmp_path):
    out = tmp_path / "out"
    run = start(suite_file("tasks: [toy/blobs]\nregularizers: [slow(seconds=5)]\nseeds: 2\n"), out)
    assert wait_for(lambda: len(list(out.glob("trials/*/metrics.jsonl"))) == 2)
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    assert wait_for(lambda: not members(run.pid), 10)


@pytest.mark.slow
def test_two_runs_of_one_folder_are_refused(suite_file, tmp_path, capsys):
    suite = suite_file("tasks: [toy/blobs]\nregularizers: [slow(seconds=0.2)]\nseeds: 2\n")
    out = tmp_path / "out"
    run = start(suite, out)
    try:
        assert wait_for(lambda: any(out.glob("trials/*/status.json")))
        assert main(["run", str(suite), "--out", str(out)]) == 3
        said = capsys.readouterr().err
        assert f"Process {run.pid} is running in {out} already." in said
        assert main(["status", str(out)]) == 0
        assert "running" in capsys.readouterr().out
    finally:
        os.killpg(run.pid, signal.SIGTERM)  # as Ctrl-C: checkpoints are saved
        _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
