"""What GSNR-guided dropout says of itself: the loss difference of Figure 1, and the ratios that were learned."""

import pytest
import torch

from regathlon_core import Budget, GSNRDrop, MetaGSNR, Recipe, fit
from regathlon_core.rng import stream
from regathlon_core.testing import ToyDomains, ToyImages


def test_the_loss_difference_is_that_of_the_two_passes():
    task = ToyImages()
    model = task.model(seed=0).train()
    regularizer = GSNRDrop(p=0.4, block_size=2)
    assert not regularizer.diagnostics()
    regularizer.attach(model, task)
    differences = []
    for number in range(4):
        batch = task.batch("train", torch.arange(8 * number, 8 * number + 8))
        plain = float(task.loss(model, batch).detach())
        changed = regularizer.transform(model, batch, task, stream(number, "step"))
        (loss,) = regularizer.losses(model, changed, task, stream(number, "step"))
        differences.append(abs(float(loss.detach()) - plain))
        regularizer.after_step(0.5)
    weights = [0.98**age for age in (3, 2, 1, 0)]
    wanted = sum(w * d for w, d in zip(weights, differences, strict=True)) / sum(weights)
    assert regularizer.diagnostics() == {"loss_difference": pytest.approx(wanted, rel=1e-5)}
    assert min(differences) > 0


def test_the_ratios_are_recorded_with_every_epoch():
    task = ToyDomains()
    regularizer = MetaGSNR(block_size=2, p=0.2)
    model = task.model(seed=0)
    places = [point.name for point in task.features(model) if point.default]
    result = fit(model, task, regularizer, Recipe(lr=0.05, budget=Budget(epochs=2)))
    first, last = (record.diagnostics for record in result.history)
    assert set(first) == {"loss_difference", *(f"ratio/{place}" for place in places)}
    assert all(0 < value < 0.5 for name, value in last.items() if name.startswith("ratio/"))
    assert first != last


def test_without_a_probe_there_is_nothing_to_say():
    task = ToyImages()
    result = fit(task.model(seed=0), task, GSNRDrop(p=0.0), Recipe(budget=Budget(epochs=1)))
    assert not result.history[-1].diagnostics
