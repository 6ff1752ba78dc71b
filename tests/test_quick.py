"""The quick suite from end to end, as a user runs it."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

REGATHLON = Path(sys.executable).with_name("regathlon")
COLUMNS = (
    "trial,suite,task,dataset,model,regularizer,seed,status,selection,split,metric,value,epochs,train_seconds,"
    "step_seconds,peak_memory_mb,train_flops,device,torch"
)
MODALITIES = {"vision", "segmentation", "detection", "points", "graphs", "dg"}


def regathlon(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [REGATHLON, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env={**os.environ, "COLUMNS": "160"}
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the quick suite was run."""
    folder = tmp_path_factory.mktemp("quick")
    ran = regathlon("run", "--out", "runs/q", cwd=folder)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    (folder / "stdout").write_text(ran.stdout)
    return folder


def test_every_modality_is_in_the_table(work: Path) -> None:
    table = (work / "stdout").read_text()
    for area in MODALITIES:
        assert f"{area}/" in table
    for name in ("none", "dropblock", "cutmix"):
        assert name in table


def test_run_again_does_nothing_and_says_so(work: Path) -> None:
    ran = regathlon("run", "--out", "runs/q", cwd=work)
    assert ran.returncode == 0
    assert "nothing to do" in (ran.stdout + ran.stderr).lower()


def test_export_has_the_columns_and_sound_numbers(work: Path) -> None:
    ran = regathlon("export", "runs/q", "--format", "csv", cwd=work)
    assert ran.returncode == 0
    assert ran.stdout.splitlines()[0] == COLUMNS
    rows = list(csv.DictReader(io.StringIO(ran.stdout)))
    assert {row["task"].partition("/")[0] for row in rows} == MODALITIES
    measured = [row for row in rows if row["status"] == "done"]
    assert all(float(row["train_flops"]) > 0 and float(row["train_seconds"]) > 0 for row in measured)
    accuracies = [float(row["value"]) for row in measured if row["metric"] == "accuracy"]
    assert accuracies
    assert all(0 <= value <= 1 for value in accuracies)
    digits = [
        float(row["value"])
        for row in measured
        if (row["task"], row["regularizer"], row["metric"], row["split"])
        == ("vision/digits", "none", "accuracy", "test")
    ]
    assert digits
    assert min(digits) > 0.8


@pytest.mark.parametrize("format", ["json", "markdown", "latex"])
def test_other_formats_hold_the_leaderboard(work: Path, format: str) -> None:
    ran = regathlon("export", "runs/q", "--format", format, cwd=work)
    assert ran.returncode == 0
    assert "dropblock" in ran.stdout


def test_incompatible_cells_are_skipped_with_a_reason(work: Path) -> None:
    ran = regathlon("plan", "quick", cwd=work)
    assert ran.returncode == 0
    assert "cutmix needs" in ran.stdout + ran.stderr


def test_adding_a_seed_runs_only_the_new_trials(work: Path) -> None:
    before = sorted((work / "runs/q/trials").iterdir())
    ran = regathlon(
        "run", "quick", "--out", "runs/q", "--set", "seeds=[0, 7]", "--set", "tasks=[graphs/karate]", "--set", "models={}",
        "--set", "budgets={graphs/karate: {epochs: 3}}", cwd=work,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    added = set((work / "runs/q/trials").iterdir()) - set(before)
    assert added
    assert all(folder.name.startswith("graphs-karate") for folder in added)
