"""GroupDRO: weights by the paper's recursion, domains that are away, and convergence to the worst domain."""

import math

import pytest
import torch

from regathlon_core import GroupDRO, GroupDROSettings, UserError
from regathlon_core.functional import group_dro_step
from regathlon_core.rng import stream
from regathlon_core.testing import ToyDomains, ToyImages, conformance_checks


def test_the_recursion_of_the_paper() -> None:
    weights, log_weights = [1 / 3] * 3, torch.zeros(3, dtype=torch.float64)
    drawn = torch.rand(20, 3, generator=stream(0, "losses"), dtype=torch.float64)
    for losses in drawn:
        weights = [q * math.exp(0.3 * float(loss)) for q, loss in zip(weights, losses, strict=True)]
        weights = [q / sum(weights) for q in weights]
        log_weights, found = group_dro_step(log_weights, losses, 0.3)
    assert found.tolist() == pytest.approx(weights, rel=1e-12)


def test_huge_losses_neither_overflow_nor_vanish() -> None:
    log_weights = torch.zeros(2, dtype=torch.float64)
    for _ in range(1000):
        log_weights, weights = group_dro_step(log_weights, torch.tensor([1000.0, 999.9]), 1.0)
    assert weights.tolist() == pytest.approx([1.0, 0.0])
    assert torch.isfinite(log_weights).all()


def test_the_step_weighs_the_domains_of_its_batch() -> None:
    task = ToyDomains()
    model = task.model(seed=0).eval()
    regularizer = GroupDRO(eta=0.5)
    regularizer.attach(model, task)
    batch = task.batch("train", torch.arange(15))
    q = torch.tensor([0.5, 0.5])
    for _ in range(3):
        (found,) = regularizer.losses(model, batch, task, stream(0, "step"))
        parts = [batch.domain == d for d in (0, 1)]
        own = torch.stack(
            [torch.nn.functional.cross_entropy(model(batch.inputs[p]), batch.targets[p]) for p in parts]
        )
        q = q * (0.5 * own.detach()).exp()
        q = q / q.sum()
        torch.testing.assert_close(found, (q * own).sum())
    bright = task.batch("train", torch.tensor([0, 1, 2, 6]))
    before = regularizer.log_weights.clone()
    (alone,) = regularizer.losses(model, bright, task, stream(0, "step"))
    torch.testing.assert_close(alone, task.loss(model, bright))
    assert float(regularizer.log_weights[1]) == float(before[1])


def test_a_task_that_names_no_domains_and_bad_settings_are_refused() -> None:
    task = ToyImages()
    with pytest.raises(UserError, match="domains"):
        GroupDRO().attach(task.model(0), task)
    assert "domains" in (GroupDROSettings().refusal(task.settings) or "")
    with pytest.raises(UserError, match="eta"):
        GroupDROSettings(eta=-0.1)


@pytest.mark.parametrize("check", conformance_checks(GroupDROSettings(eta=0.5), [ToyDomains()]), ids=str)
def test_it_keeps_the_rules(check) -> None:
    check()
