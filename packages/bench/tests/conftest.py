"""Installs the toy plugin (``plugin/``) for these tests, in this process and in those it starts."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from regathlon.cli import main

collect_ignore = ["plugin"]

_METADATA = "Metadata-Version: 2.1\nName: toyplug\nVersion: 0.1\n"
_ENTRY_POINTS = """\
[regathlon.tasks]
toy/blobs = toyplug.settings:BlobsSettings
toy/shifted = toyplug.settings:ShiftedSettings
toy/downloaded = toyplug.settings:DownloadedSettings
toy/broken = toyplug.nowhere:BrokenSettings
[regathlon.regularizers]
noise = toyplug.settings:NoiseSettings
slow = toyplug.settings:SlowSettings
mix = toyplug.settings:MixSettings
blend = toyplug.settings:BlendSettings
graph_only = toyplug.settings:GraphOnlySettings
boom = toyplug.settings:BoomSettings
[regathlon.evaluations]
weights = toyplug.settings:WeightsSettings
gridded = toyplug.settings:GriddedSettings
[regathlon.trackers]
witness = toyplug.tracking:Witness
faulty = toyplug.tracking:Faulty
leaving = toyplug.tracking:Leaving
hanging = toyplug.tracking:Hanging
lacking = toyplug.tracking:Lacking
[regathlon.suites]
toyplug = toyplug.suites
[regathlon.datasets]
toyplug = toyplug.data
"""


@pytest.fixture(scope="session", autouse=True)
def toy_plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    installed = tmp_path_factory.mktemp("site") / "toyplug-0.1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(_METADATA)
    (installed / "entry_points.txt").write_text(_ENTRY_POINTS)
    paths = [str(installed.parent), str(Path(__file__).parent / "plugin")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*paths, *sys.path])
        patch.setenv("PYTHONPATH", os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])]))
        yield


@pytest.fixture
def run(capsys):
    """Return a function that calls the command line and returns its exit code, stdout and stderr."""

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return code, said.out, said.err

    return call


@pytest.fixture
def suite_file(tmp_path: Path):
    """Return a function that writes a suite file."""

    def write(text: str, name: str = "toy") -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        return path

    return write


ENVIRONMENT = {"torch": "2.15.0", "device": "cpu", "cpu": "some", "packages": {"regathlon-core": "0.1.0"}}


@pytest.fixture
def made_run(tmp_path: Path):
    """Return a function that writes a run directory as if trained: a cell per task, regularizer and seed."""

    def make(
        scores: dict[tuple[str, str], dict[int, float | str | None]],
        name: str = "made",
        *,
        metric: str = "accuracy",
        lower_is_better: bool = False,
        selection: str = "last",
        environment: dict | None = None,
        description: dict | None = None,
        metrics: dict | None = None,
        plan: dict | None = None,
    ) -> Path:
        """A score is a number, or a status ("planned", "failed", "skipped"), or None for one that is missing."""
        folder = tmp_path / name
        (folder / "trials").mkdir(parents=True)
        cells = []
        for (task, regularizer), by_seed in scores.items():
            for seed, score in by_seed.items():
                names = {
                    "task": task,
                    "dataset": "made",
                    "model": "mlp",
                    "regularizer": regularizer,
                    "seed": seed,
                }
                if score == "skipped":
                    cells.append({"status": "skipped", "reason": f"{regularizer} needs more", **names})
                    continue
                parts = [{"name": part.partition("(")[0], "version": 1, "settings": {}}
                         for part in regularizer.split("+")]  # fmt: skip
                described = {
                    "protocol": 1,
                    "task": {"name": task.partition("(")[0], "version": 1, "settings": {}},
                    "dataset": {"name": "made", "version": 1},
                    "model": {"name": "mlp", "version": 1, "settings": {}},
                    "regularizer": parts,
                    "recipe": {"lr": 0.1, "budget": {"epochs": 3, "steps": None}},
                    "seed": seed,
                } | (description or {})
                identity = hashlib.sha256(json.dumps([described, names]).encode()).hexdigest()[:16]
                at = f"{task}.{regularizer}.s{seed}.{identity}".replace("/", "-")
                cell = {"status": "planned", "id": identity, "folder": at, **names, "metric": metric,
                        "lower_is_better": lower_is_better, "description": described}  # fmt: skip
                cells.append(cell)
                if score == "planned":
                    continue
                test = {} if score is None else {metric: score, **(metrics or {})}
                chosen = {"epoch": 3, "val": {}, "test": test}
                result = {"format": 1, "id": identity, "status": "done", "reason": None, "wall_seconds": 4.0,
                          "selections": {"last": chosen, "oracle": chosen,
                                         "best_val": {"unavailable": "there is no validation split"}},
                          "history": [{"epoch": 1, "step": 10, "train_loss": 1.0, "seconds": 2.0}],
                          "cost": {"train_seconds": 2.0 + len(regularizer), "step_seconds": 0.1,
                                   "peak_memory_mb": 10.0, "train_flops": 1e6, "steps": 20},
                          "environment": environment or ENVIRONMENT}  # fmt: skip
                if isinstance(score, str):
                    result = {"format": 1, "id": identity, "status": score, "reason": "it went wrong"}
                (folder / "trials" / at).mkdir()
                (folder / "trials" / at / "result.json").write_text(json.dumps(result))
        whole = {"suite": "made", "title": "Made", "selection": selection, "cells": cells}
        (folder / "plan.json").write_text(json.dumps(whole | (plan or {})))
        return folder

    return make
