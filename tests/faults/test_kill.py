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


def finished(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("trials/*/result.json")}


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
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    begun = time.monotonic()
    assert start(suite, undisturbed).wait() == 0
    per_trial = (time.monotonic() - begun) / len(finished(undisturbed))

    # A kill comes at a random moment after the run has got a little further, so that it lands however fast or
    # loaded the machine is: at most two trials further, of the 36 that there are, and then within another one.
    moments = random.Random(0)
    landed = 0
    for _ in range(KILLS):
        before = finished(killed)
        process = start(suite, killed)
        further = moments.choice([0, 1, 2])
        while process.poll() is None and len(finished(killed)) < len(before) + further:
            time.sleep(0.02)
        try:
            process.wait(timeout=moments.uniform(0.1, 1.0) * per_trial)
        except subprocess.TimeoutExpired:
            kill_tree(process)
            landed += 1
        assert before <= finished(killed), "a finished trial was lost"
    assert landed == KILLS, "a run ended before it was to be killed"
    assert finished(killed), "no trial had finished before a kill"
    assert start(suite, killed).wait() == 0
    assert metrics(killed) == metrics(undisturbed)
