"""Trackers are told everything once, and whatever they do stops no trial."""

import importlib.util
import json
import shutil
import subprocess
import sys

import pytest

from regathlon.cli import main
from regathlon.commands import tracking
from regathlon.plugins import load
from regathlon.results import read_results
from regathlon.trackers import synchronize

SUITE = "tasks: [toy/blobs]\nregularizers: [none, graph_only]\nseeds: 2\n"
VALUES = ["lr", "test/accuracy", "test/class_accuracy", "train_loss", "val/accuracy", "val/class_accuracy"]
COSTS = ["cost/peak_memory_mb", "cost/step_seconds", "cost/steps", "cost/train_flops", "cost/train_seconds"]


def told(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def expected(name, steps=(6, 12, 18)):
    regularizer, seed = name.split(".")
    return [
        ["begin", regularizer, int(seed)],
        *(["record", name, step, VALUES] for step in steps),
        ["end", name, "done", COSTS],
    ]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ran")
    (folder / "toy.yaml").write_text(SUITE)
    assert main(["run", str(folder / "toy.yaml"), "--out", str(folder / "out")]) == 0
    return folder / "out"


@pytest.fixture
def done(ran, tmp_path):
    """A finished run of one's own."""
    return shutil.copytree(ran, tmp_path / "out")


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """However slow the machine is: only a tracker that hangs does not end in time."""
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 600.0)


def test_a_run_is_told_once_and_completely(done, capsys):
    assert main(["track", str(done), "--to", "witness"]) == 0
    assert "witness: 10 new records" in capsys.readouterr().out
    assert told(done / "witness.jsonl") == expected("none.0") + expected("none.1")
    assert main(["track", str(done), "--to", "witness"]) == 0
    assert len(told(done / "witness.jsonl")) == 10


def test_telling_goes_on_where_a_fault_stopped_it(done):
    class Unsteady(load("tracker", "witness")):
        calls = 0

        def _write(self, *what):
            type(self).calls += 1
            if self.calls % 3 == 0:
                raise ConnectionError("later")
            super()._write(*what)

    tracker = Unsteady(None, done, "toy")
    for _ in range(50):
        try:
            if not synchronize(done, tracker, "unsteady"):
                break
        except ConnectionError:
            continue
    assert told(done / "witness.jsonl") == expected("none.0") + expected("none.1")


def test_epochs_that_a_resume_writes_again_and_half_lines_are_not_told(done):
    outcomes = [o for o in read_results(done).outcomes if o.status == "done"]
    path = done / "trials" / outcomes[0].cell["folder"] / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[1], *lines[:3], lines[2][:20]]))
    tracker = load("tracker", "witness")(None, done, "toy")
    synchronize(done, tracker, "witness")
    assert told(done / "witness.jsonl")[:5] == expected("none.0")


def test_a_run_is_followed_while_it_works(suite_file, tmp_path):
    out, seen = tmp_path / "out", tmp_path / "seen.jsonl"
    assert main(["run", str(suite_file(SUITE)), "--out", str(out), "--tracker", f"witness={seen}"]) == 0
    lines = told(seen)
    for name in ("none.0", "none.1"):
        seed = int(name[-1])
        assert [line for line in lines if line[1] == name or line[2] == seed] == expected(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("faulty", "ended with exit code"),
        ("leaving", "ended with exit code 7"),
        ("hanging", "did not end in time"),
    ],
)
def test_trackers_that_go_wrong_stop_no_trial(suite_file, tmp_path, capsys, monkeypatch, done, name, said):
    if name == "hanging":
        monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 1.0)
    out = tmp_path / "tracked"
    assert main(["run", str(suite_file(SUITE)), "--out", str(out), "--tracker", name]) == 0
    errors = capsys.readouterr().err
    assert f"The tracker {name} {said}" in errors
    assert "no trial was touched" in errors
    scores = [
        {o.cell["id"]: o.selected("last") for o in read_results(folder).outcomes if o.status == "done"}
        for folder in (done, out)
    ]
    assert scores[0] == scores[1]
    if name == "faulty":
        assert "ConnectionError: the server is gone" in (out / "trackers" / "faulty.log").read_text()


@pytest.mark.parametrize(
    ("name", "said"),
    [("lacking", "needs the package nobody_has_this"), ("witnes", "Did you mean 'witness'?")],
)
def test_what_cannot_track_is_refused_before_anything_runs(suite_file, tmp_path, capsys, name, said):
    out = tmp_path / "out"
    assert main(["run", str(suite_file(SUITE)), "--out", str(out), "--tracker", name]) == 3
    assert said in capsys.readouterr().err
    assert not (out / "trials").exists()


def needs(package):
    here = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(not here, reason=f"{package} is an extra that is not installed")


def read_with(code, folder):
    """Run code that reads what a tracker has written, away from this process's filters of warnings."""
    text = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(folder)], capture_output=True, text=True, check=True
    ).stdout
    return json.loads(text.splitlines()[-1])


@needs("tensorboard")
def test_tensorboard_shows_what_was_measured(done):
    code = [sys.executable, "-m", "regathlon", "track", str(done), "--to", "tensorboard"]
    subprocess.run(code, check=True, capture_output=True)
    found = read_with(
        """
import json, sys
from pathlib import Path
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = {}
for folder in (Path(sys.argv[1]) / "tensorboard").iterdir():
    events = EventAccumulator(str(folder))
    events.Reload()
    scalars = events.Tags()["scalars"]
    found[folder.name] = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in scalars}
print(json.dumps(found))
""",
        done,
    )
    outcomes = [o for o in read_results(done).outcomes if o.status == "done"]
    assert set(found) == {o.cell["folder"] for o in outcomes}
    for outcome in outcomes:
        shown = found[outcome.cell["folder"]]
        history = outcome.result["history"]
        assert [step for step, _ in shown["train_loss"]] == [record["step"] for record in history]
        last = shown["test/accuracy"][-1][1]
        assert last == pytest.approx(outcome.score("last"), rel=1e-6)


@needs("mlflow")
def test_mlflow_shows_what_was_measured(done):
    code = [sys.executable, "-m", "regathlon", "track", str(done), "--to", "mlflow"]
    subprocess.run(code, check=True, capture_output=True)
    found = read_with(
        """
import json, sys
import mlflow
client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{sys.argv[1]}/mlflow.db")
experiment = client.get_experiment_by_name("toy")
runs = client.search_runs([experiment.experiment_id])
print(json.dumps({r.info.run_name: [r.info.status, r.data.metrics["test/accuracy"], r.data.params["recipe.lr"]] for r in runs}))
""",
        done,
    )
    outcomes = [o for o in read_results(done).outcomes if o.status == "done"]
    assert found == {o.cell["folder"]: ["FINISHED", o.score("last"), "0.05"] for o in outcomes}
