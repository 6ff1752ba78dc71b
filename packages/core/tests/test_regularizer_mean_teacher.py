"""Mean Teacher: the average, the consistency, and what is evaluated."""

import copy

import pytest
import torch
import torch.nn.functional as F

from regathlon_core import Budget, MeanTeacher, Recipe, UserError, fit
from regathlon_core.regularizers.mean_teacher.functional import consistency, decay_at, ramped
from regathlon_core.rng import stream
from regathlon_core.testing import ToyImages


@pytest.fixture(scope="module")
def task():
    return ToyImages()


def test_the_teacher_is_the_average_of_the_weights(task):
    model, regularizer = task.model(seed=0), MeanTeacher(decay=0.9)
    regularizer.attach(model, task)
    wanted = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = stream(0, "weights")
    for step in range(1, 15):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn(parameter.shape, generator=generator)
            for buffer in model.buffers():
                buffer += 1
        regularizer.after_step(step / 20)
        decay = min(1 - 1 / (step + 1), 0.9)
        learned = dict(model.named_parameters())
        for name, tensor in model.state_dict().items():
            wanted[name] = decay * wanted[name] + (1 - decay) * tensor if name in learned else tensor.clone()
    teacher = regularizer.evaluated(model)
    for name, tensor in teacher.state_dict().items():
        torch.testing.assert_close(tensor, wanted[name], msg=name, rtol=1e-5, atol=1e-5)
    assert teacher is not model
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_consistency_is_a_mean_square_of_probabilities():
    student = torch.randn(6, 3, generator=stream(0, "s")).double().requires_grad_()
    teacher = torch.randn(6, 3, generator=stream(1, "t")).double().requires_grad_()
    loss = consistency(student, teacher)
    torch.testing.assert_close(loss, F.mse_loss(student.softmax(1), teacher.softmax(1)))
    loss.backward()
    assert teacher.grad is None
    assert float(consistency(student, student).detach()) == 0
    assert consistency(student.half(), teacher.half()).dtype == torch.float32


def test_schedules():
    points = [ramped(progress / 100, 0.4) for progress in range(101)]
    assert points == sorted(points)
    assert points[40:] == [1.0] * 61
    assert ramped(0.0, 0.0) == 1.0
    assert [decay_at(step, 0.5) for step in (1, 2, 10)] == [0.5, 0.5, 0.5]


def test_only_labelled_samples_move_statistics_and_weights_of_the_teacher_rest(task):
    batch = task.batch("train", torch.arange(8))
    model, regularizer = task.model(seed=0).train(), MeanTeacher(ramp=0.0, noise=0.0)
    once = copy.deepcopy(model)
    once(batch.inputs)
    regularizer.attach(model, task)
    before = [tensor.clone() for tensor in regularizer.state_dict().values()]
    found = []
    for loss in regularizer.losses(model, batch, task, stream(0, "steps")):
        found.append(float(loss.detach()))
        loss.backward()
    for (name, buffer), wanted in zip(model.named_buffers(), once.buffers(), strict=True):
        assert torch.equal(buffer, wanted), name
    for tensor, own in zip(regularizer.state_dict().values(), before, strict=True):
        assert torch.equal(tensor, own)
    # The first teacher is the network itself, and without noise they agree.
    assert found[0] == pytest.approx(
        float(F.cross_entropy(once(batch.inputs), batch.targets).detach()), rel=1e-5
    )
    assert found[1] == pytest.approx(0, abs=1e-10)


def test_training_reports_and_returns_the_teacher(task):
    model = task.model(seed=0)
    result = fit(model, task, MeanTeacher(decay=0.5), Recipe(lr=0.05, budget=Budget(epochs=1)))
    assert result.model is not model
    assert result.history[-1].test == task.evaluate(result.model, "test")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": -1.0}, "weight must be a number at least 0"),
        ({"decay": 1.0}, "decay must be a number at least 0 and below 1"),
        ({"ramp": 1.5}, "ramp must be a number at least 0 and at most 1"),
        ({"noise": float("nan")}, "noise must be a number at least 0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        MeanTeacher(**settings)
