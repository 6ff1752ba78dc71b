"""Calibration against a plain second implementation, and on models whose calibration is known."""

import math

import pytest
import torch
from torch import Tensor, nn

from regathlon_core import EvaluationSettings, Picture, UserError
from regathlon_core.evaluations.calibration.evaluation import expected_calibration_error
from regathlon_core.evaluations.calibration.settings import CalibrationSettings
from regathlon_core.testing import ToyImages, ToyScenes

TASKS = [ToyImages(), ToyScenes()]


def slow_ece(probabilities: Tensor, targets: Tensor, bins: int) -> float:
    total = 0.0
    for b in range(bins):
        inside = [
            n
            for n, row in enumerate(probabilities)
            if b / bins < float(row.max()) <= (b + 1) / bins or (b == 0 and float(row.max()) == 0)
        ]
        if inside:
            right = sum(int(probabilities[n].argmax() == targets[n]) for n in inside) / len(inside)
            sure = sum(float(probabilities[n].max()) for n in inside) / len(inside)
            total += len(inside) / len(targets) * abs(right - sure)
    return total


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_the_error_equals_a_loop(bins: int) -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.randn(200, 4, generator=generator, dtype=torch.float64).mul(2).softmax(1)
    targets = torch.randint(4, (200,), generator=generator)
    wanted = slow_ece(probabilities, targets, bins)
    assert expected_calibration_error(probabilities, targets, bins) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.settings.name)
def test_an_undecided_model(task: ToyImages) -> None:
    class Undecided(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = task.model(seed=0)(x)
            return logits * 0

    found = CalibrationSettings().build().run(Undecided(), task, generator=torch.Generator()).metrics
    classes = len(task.classes)
    assert found["nll"] == pytest.approx(math.log(classes))
    assert found["brier"] == pytest.approx((1 - 1 / classes) ** 2 + (classes - 1) / classes**2)
    accuracy = task.evaluate(Undecided(), "test")["accuracy"]
    assert found["ece"] == pytest.approx(abs(accuracy - 1 / classes))


def test_needs_classes_and_bins() -> None:
    assert isinstance(CalibrationSettings(), EvaluationSettings)
    assert CalibrationSettings().refusal(ToyImages().settings) is None
    with pytest.raises(UserError, match="at least 1 bin"):
        CalibrationSettings(bins=0)


@pytest.mark.parametrize("image", [torch.zeros(3, 4, 4), torch.zeros(4, 4, 3, dtype=torch.uint8)])
def test_a_picture_is_rgb_bytes(image: Tensor) -> None:
    with pytest.raises(ValueError, match="uint8"):
        Picture("heat", "Where it looks", image)
