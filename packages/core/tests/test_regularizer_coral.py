"""CORAL: its penalty against numpy's covariances, and the features that it is taken of."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from regathlon_core import CORAL, CORALSettings, UserError
from regathlon_core.functional import coral_penalty
from regathlon_core.rng import stream
from regathlon_core.testing import ToyDomains, conformance_checks


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=stream(seed, "noise"), dtype=torch.float64)


@pytest.mark.parametrize("means", [True, False])
def test_the_penalty_by_numpy(means: bool) -> None:
    parts = [noise(6, 4), 2 * noise(3, 4, seed=1) + 1, noise(9, 4, seed=2)]
    expected = []
    for x, y in itertools.combinations([part.numpy() for part in parts], 2):
        covariances = ((np.cov(x.T) - np.cov(y.T)) ** 2).mean()
        expected.append(covariances + means * ((x.mean(0) - y.mean(0)) ** 2).mean())
    assert float(coral_penalty(parts, means=means)) == pytest.approx(np.mean(expected), rel=1e-12)


def test_a_domain_of_one_sample_and_a_single_domain() -> None:
    many, one = noise(5, 3), noise(1, 3, seed=1)
    expected = (many.mean(0) - one[0]).square().mean()
    torch.testing.assert_close(coral_penalty([many, one]), expected)
    assert float(coral_penalty([many, one], means=False)) == 0
    assert float(coral_penalty([many])) == 0
    x = noise(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: coral_penalty([x[:2], x[2:]]), x)


def test_the_step_aligns_the_last_place_s_averages() -> None:
    task = ToyDomains()
    model = task.model(seed=0).train()
    batch = task.batch("train", torch.arange(16))
    regularizer = CORAL(weight=3.0)
    regularizer.attach(model, task)
    regularizer.transform(model, batch, task, stream(0, "step"))
    (found,) = regularizer.losses(model, batch, task, stream(0, "step"))
    regularizer.detach()
    features = model.block2(model.block1(batch.inputs)).mean((2, 3))
    penalty = coral_penalty([features[batch.domain == d] for d in (0, 1)])
    assert float(penalty.detach()) > 0
    torch.testing.assert_close(found, task.loss(model, batch) + 3.0 * penalty)


def test_bad_settings_are_refused_by_name() -> None:
    with pytest.raises(UserError, match="weight"):
        CORALSettings(weight=-1.0)


@pytest.mark.parametrize("check", conformance_checks(CORALSettings(means=False), [ToyDomains()]), ids=str)
def test_it_keeps_the_rules(check) -> None:
    check()
