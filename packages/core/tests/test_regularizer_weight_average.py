"""Weight averaging: the mean of the weights, and nothing else, is what is evaluated."""

import dataclasses

import pytest
import torch
from torch import nn

from regathlon_core import Budget, UserError, WeightAverage, WeightAverageSettings, fit
from regathlon_core.testing import ToyDomains, ToyImages, conformance_checks


def tensors(model: nn.Module) -> list[torch.Tensor]:
    return [value.detach().clone() for value in model.state_dict().values()]


@pytest.mark.parametrize(("start", "every"), [(0.0, 1), (0.5, 1), (0.25, 3)])
def test_it_is_the_mean_of_the_weights_that_count(start: float, every: int) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()
    regularizer = WeightAverage(start=start, every=every)
    regularizer.attach(model)
    total, counted = 12, []
    generator = torch.Generator().manual_seed(0)
    for step in range(1, total + 1):
        with torch.no_grad():
            for value in model.parameters():
                value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64))
        model(torch.randn(5, 3, generator=generator, dtype=torch.float64))
        regularizer.after_step(step / total)
        if step / total > start and step % every == 0:
            counted.append(tensors(model))
        if not counted:
            assert regularizer.evaluated(model) is model
    found = regularizer.evaluated(model)
    assert found is not model
    assert not found.training
    for value, *seen in zip(tensors(found), *counted, strict=True):
        if value.is_floating_point():
            torch.testing.assert_close(value, torch.stack(seen).mean(0), rtol=1e-12, atol=1e-12)
        else:
            assert torch.equal(value, seen[-1])
    last = counted[-1]
    regularizer.detach()
    assert all(torch.equal(a, b) for a, b in zip(tensors(model), last, strict=True))


def test_the_average_is_what_is_measured_and_the_training_is_the_plain_one() -> None:
    task = ToyImages()
    recipe = dataclasses.replace(task.settings.recipe, budget=Budget(epochs=2))
    plain, averaged = task.model(seed=0), task.model(seed=0)
    fit(plain, task, recipe=recipe)
    result = fit(averaged, task, WeightAverage(start=0.5), recipe)
    assert all(torch.equal(a, b) for a, b in zip(tensors(plain), tensors(averaged), strict=True))
    assert result.history[-1].val == task.evaluate(result.model, "val")
    assert any(not torch.equal(a, b) for a, b in zip(tensors(result.model), tensors(plain), strict=True))


def test_bad_settings_are_refused_by_name() -> None:
    for field, value in (("start", 1.0), ("start", -0.1), ("every", 0)):
        with pytest.raises(UserError, match=field):
            WeightAverageSettings(**{field: value})


@pytest.mark.parametrize(
    "check", conformance_checks(WeightAverageSettings(start=0.3), [ToyDomains()]), ids=str
)
def test_it_keeps_the_rules(check) -> None:
    check()
