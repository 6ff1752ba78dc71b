"""Metrics against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from regathlon_core import Batch, stream
from regathlon_core.metrics import ConfusionMetrics

sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is in core's test group")

CASES = {
    "all classes": (5, 400, None),
    "a class without labels": (5, 60, 3),
    "few samples": (7, 9, None),
    "two classes": (2, 50, None),
}


def draw(classes: int, count: int, absent: int | None) -> tuple[Tensor, Tensor]:
    generator = stream(0, "metrics", classes, count)
    targets = torch.randint(classes, (count,), generator=generator)
    logits = torch.randn(count, classes, generator=generator)
    logits[torch.arange(count), targets] += 1.0
    if absent is not None:
        targets[targets == absent] = (absent + 1) % classes
    return logits, targets


@pytest.mark.parametrize(("classes", "count", "absent"), CASES.values(), ids=CASES.keys())
def test_metrics_equal_those_of_scikit_learn(classes: int, count: int, absent: int | None) -> None:
    logits, targets = draw(classes, count, absent)
    metrics = ConfusionMetrics(classes, dense=True)
    for part, its in zip(logits.split(7), targets.split(7), strict=True):
        metrics.update(part, Batch(None, its))
    found = metrics.compute()
    true, predicted = targets.numpy(), logits.argmax(1).numpy()
    occurring = sorted(set(true) | set(predicted))
    averaged = {"labels": occurring, "average": "macro"}
    recalls = sklearn_metrics.recall_score(true, predicted, labels=sorted(set(true)), average="macro")
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(true, predicted))
    assert found["class_accuracy"] == pytest.approx(recalls)
    assert found["miou"] == pytest.approx(sklearn_metrics.jaccard_score(true, predicted, **averaged))
    assert found["dice"] == pytest.approx(sklearn_metrics.f1_score(true, predicted, **averaged))
    assert np.array_equal(
        metrics.matrix, sklearn_metrics.confusion_matrix(true, predicted, labels=range(classes))
    )


def test_dense_outputs_count_positions_and_leave_ignored_ones_out() -> None:
    generator = stream(0, "dense")
    logits = torch.randn(3, 4, 6, 5, generator=generator)
    targets = torch.randint(4, (3, 6, 5), generator=generator)
    targets[:, :2] = 255
    metrics = ConfusionMetrics(4, ignore_index=255, dense=True)
    metrics.update(logits, Batch(None, targets))
    kept = targets != 255
    predicted = logits.argmax(1)[kept].numpy()
    wanted = sklearn_metrics.jaccard_score(targets[kept].numpy(), predicted, average="macro")
    assert metrics.compute()["miou"] == pytest.approx(wanted)
    assert int(metrics.matrix.sum()) == int(kept.sum())


def test_segmentations_metrics_are_for_dense_tasks_only() -> None:
    metrics = ConfusionMetrics(2)
    metrics.update(torch.eye(2), Batch(None, torch.arange(2)))
    assert metrics.compute() == {"accuracy": 1.0, "class_accuracy": 1.0}


def test_nothing_counted_is_nan_without_a_warning() -> None:
    metrics = ConfusionMetrics(3, dense=True)
    assert all(math.isnan(value) for value in metrics.compute().values())
