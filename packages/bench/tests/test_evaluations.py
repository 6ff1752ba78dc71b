"""Evaluations of finished trials: their numbers and pictures, failures, and adding one later."""

import csv
import io
import json

import pytest
import torch
from PIL import Image

from regathlon.results import read_results

SUITE = "tasks: [toy/blobs]\nregularizers: [none, noise]\nseeds: 1\nevaluations: [{}]\n"


def trials(out):
    return sorted((out / "trials").iterdir())


def rows(run, out):
    return list(csv.DictReader(io.StringIO(run("export", out, "--format", "csv")[1])))


def test_numbers_and_pictures_stand_beside_the_trials(run, suite_file, tmp_path):
    out = tmp_path / "out"
    code, _, said = run("run", suite_file(SUITE.format("weights, calibration(bins=5)")), "--out", out)
    assert code == 0, said
    for trial in trials(out):
        (picture,) = (trial / "pictures").glob("*.png")  # the name given leads out of the folder
        with Image.open(picture) as image:
            assert image.mode == "RGB"
            assert image.size == (2, 8)
        assert {path.name.partition(".")[0] for path in (trial / "evaluations").iterdir()} == {
            "weights",
            "calibration",
        }
    found = [row for row in rows(run, out) if "/" in row["metric"]]
    assert {row["metric"] for row in found} == {
        *(f"weights/{name}" for name in ("norm", "draw", "endless")),
        *(f"calibration(bins=5)/{name}" for name in ("ece", "nll", "brier")),
    }
    assert all((row["value"] == "") == row["metric"].endswith("endless") for row in found)
    shown = read_results(out).outcomes[0].evaluations
    assert [(each.name, each.status) for each in shown] == [
        ("calibration(bins=5)", "done"),
        ("weights", "done"),
    ]
    assert shown[1].pictures[0].caption == "The <first> layer"
    assert shown[1].pictures[0].path.is_file()


def test_an_evaluation_added_later_needs_no_training(run, suite_file, tmp_path):
    out = tmp_path / "out"
    assert run("run", suite_file(SUITE.format("weights")), "--out", out)[0] == 0
    before = {trial.name: (trial / "result.json").read_bytes() for trial in trials(out)}
    first = {
        trial.name: next((trial / "evaluations").glob("weights.*")).read_bytes() for trial in trials(out)
    }
    assert run("run", suite_file(SUITE.format("weights, calibration")), "--out", out)[0] == 0
    assert {trial.name: (trial / "result.json").read_bytes() for trial in trials(out)} == before
    after = {
        trial.name: next((trial / "evaluations").glob("weights.*")).read_bytes() for trial in trials(out)
    }
    assert after == first
    assert all(len(list((trial / "evaluations").iterdir())) == 2 for trial in trials(out))
    code, _, said = run("run", suite_file(SUITE.format("weights, calibration")), "--out", out)
    assert code == 0
    assert "Nothing to do" in said


def test_a_trial_whose_model_was_not_kept_is_trained_again_to_the_same_bits(run, suite_file, tmp_path):
    out = tmp_path / "out"
    assert run("run", suite_file(SUITE.format("")), "--out", out)[0] == 0
    assert not any((trial / "model.pt").exists() for trial in trials(out))
    before = {row["metric"]: row["value"] for row in rows(run, out)}
    assert run("run", suite_file(SUITE.format("weights")), "--out", out)[0] == 0
    after = {row["metric"]: row["value"] for row in rows(run, out) if "/" not in row["metric"]}
    assert after == before
    for trial in trials(out):
        weights = torch.load(trial / "model.pt", weights_only=True)
        norm = json.loads(next((trial / "evaluations").iterdir()).read_text())["metrics"]["norm"]
        assert norm == pytest.approx(float(next(iter(weights.values())).norm()))


def test_a_failed_evaluation_leaves_the_trial_and_the_others_alone(run, suite_file, tmp_path):
    out = tmp_path / "out"
    assert run("run", suite_file(SUITE.format("weights(fail=true), calibration")), "--out", out)[0] == 0
    outcome = read_results(out).outcomes[0]
    assert outcome.status == "done"
    failed = next(each for each in outcome.evaluations if each.status == "failed")
    assert failed.reason == "RuntimeError: cannot be drawn"
    assert next(each for each in outcome.evaluations if each.name == "calibration").status == "done"
    (trials(out)[0] / "evaluations" / "calibration.00000000.json").write_text("{broken")
    assert len(read_results(out).outcomes[0].evaluations) == 2


def test_a_refused_evaluation_is_explained(run, suite_file, tmp_path):
    out = tmp_path / "out"
    suite = suite_file(SUITE.format("gridded, calibration"))
    assert run("run", suite, "--out", out)[0] == 0
    assert [each.name for each in read_results(out).outcomes[0].evaluations] == ["calibration"]
    code, planned, _ = run("plan", suite)
    assert code == 0
    assert "gridded needs inputs on a regular grid" in " ".join(planned.split())


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("weight", "Did you mean 'weights'"),
        ("weights(fall=true)", "Did you mean 'fail'"),
        ("weights, weights", "stands twice"),
    ],
)
def test_what_is_wrong_is_one_message(run, suite_file, tmp_path, written, said):
    code, _, error = run("run", suite_file(SUITE.format(written)), "--out", tmp_path / "out")
    assert code == 3
    assert said in error
    assert ":4" in error


def test_evaluations_are_listed_and_described(run):
    assert "calibration" in run("list", "evaluations")[1]
    assert "negative log-likelihood" in run("describe", "calibration")[1].lower()
