"""Killed at random moments and run again, a run ends with the numbers of an undisturbed one, bit for bit."""

import csv
import io
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

REGATHLON = Path(sys.executable).with_name("regathlon")
SUITE = """
tasks: [vision/digits, segmentation/scenes, points/shapes, graphs/digits, graphs/atlas, dg/digits(test=poster)]
regularizers: [none, dropblock, cutmix]
seeds: 2
budget: {epochs: 2}
"""
COSTS = {"train_seconds", "step_seconds", "peak_memory_mb"}
KILLS = 10


def metrics(folder: Path) -> list[dict[str, str]]:
    exported = subprocess.run(
        [REGATHLON, "export", folder, "--format", "csv"], capture_output=True, text=True, check=True
    )
    rows = csv.DictReader(io.StringIO(exported.stdout))
    return [{name: value for name, value in row.items() if name not in COSTS} for row in rows]


def start(suite: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [REGATHLON, "run", suite, "--out", out, "--jobs", "2"]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    tree = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in tree:
        try:
            os.kill(member.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


@pytest.mark.slow
def test_killed_ten_times(tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text(SUITE)
    begun = time.monotonic()
    assert start(suite, tmp_path / "undisturbed").wait() == 0
    whole = time.monotonic() - begun

    moments = random.Random(0)
    done: set[str] = set()
    killed = 0
    for _ in range(KILLS):
        process = start(suite, tmp_path / "killed")
        try:
            process.wait(timeout=moments.uniform(0.1, 0.5) * whole)
        except subprocess.TimeoutExpired:
            kill_tree(process)
            killed += 1
        finished = {path.parent.name for path in (tmp_path / "killed").glob("trials/*/result.json")}
        assert done <= finished, "a finished trial was lost"
        done = finished
    assert killed >= KILLS // 2, "most runs ended before they were to be killed"
    assert done, "no trial had finished before a kill"
    assert start(suite, tmp_path / "killed").wait() == 0
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "undisturbed")
