"""The suites that ship: each can be planned, and skips what it cannot run with a reason."""

from pathlib import Path

import pytest

from regathlon import datasets
from regathlon.plan import make_plan
from regathlon.suite_files import load_suite

SUITES = Path(__file__).parents[1] / "benchmarks" / "suites"


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_suite_is_planned(path: Path) -> None:
    plan = make_plan(load_suite(path))
    assert plan.cells
    assert all(cell.reason for cell in plan.skipped)


def test_the_bag_of_tricks_distils_once_its_teacher_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "missing", lambda name, data: None)
    suite = load_suite(SUITES / "paper-gradaug-table1-tricks.yaml")
    plan = make_plan(suite)
    (trial,) = plan.trials
    assert [part.name for part in trial.regularizer] == ["mixup", "label_smoothing"]
    (skipped,) = plan.skipped
    wanted = "distillation needs the weights weights/resnet152d.pt, and there is no such file"
    assert skipped.reason == wanted
    weights = tmp_path / "weights" / "resnet152d.pt"
    weights.parent.mkdir()
    weights.write_bytes(b"")
    same, distilled = make_plan(suite).trials
    assert same.id == trial.id
    assert [part.name for part in distilled.regularizer] == ["mixup", "label_smoothing", "distillation"]
