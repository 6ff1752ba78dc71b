"""IRM: its penalty in closed form, annealing, and its place in the loss."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from regathlon_core import IRM, IRMSettings, UserError
from regathlon_core.functional import irm_penalty
from regathlon_core.rng import stream
from regathlon_core.testing import ToyDomains, conformance_checks


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=stream(seed, "noise"), dtype=torch.float64)


def slopes(logits: Tensor, labels: Tensor) -> Tensor:
    """Each sample's derivative of the cross-entropy in the scale of its logits, worked out by hand."""
    return (logits.softmax(1) * logits).sum(1) - logits[torch.arange(len(labels)), labels]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_penalty_in_closed_form(count: int) -> None:
    logits, labels = noise(count, 4), torch.arange(count) % 4

    def risk(scaled: Tensor, places: Tensor) -> Tensor:
        return F.cross_entropy(scaled, labels[places])

    single = slopes(logits, labels)
    torch.testing.assert_close(irm_penalty(logits, risk, halves=False), single.mean() ** 2)
    halves = single[::2].mean() * single[1::2].mean() if count > 1 else single.mean() ** 2
    torch.testing.assert_close(irm_penalty(logits, risk), halves)


def test_the_gradient_of_the_penalty() -> None:
    labels = torch.arange(6) % 3

    def penalty(logits: Tensor) -> Tensor:
        return irm_penalty(logits, lambda scaled, places: F.cross_entropy(scaled, labels[places]))

    assert torch.autograd.gradcheck(penalty, noise(6, 3).requires_grad_())


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 1.0), (0.19, 1.0), (0.2, 50.0), (1.0, 50.0)])
def test_the_loss_and_its_annealing(progress: float, weight: float) -> None:
    task = ToyDomains()
    model = task.model(seed=0)
    batch = task.batch("train", torch.arange(21))
    regularizer = IRM(weight=50.0, anneal=0.2, estimator="square")
    regularizer.after_step(progress)
    (found,) = regularizer.losses(model, batch, task, stream(0, "step"))
    logits = model(batch.inputs).double()
    each = slopes(logits, batch.targets)
    penalty = torch.stack([each[batch.domain == d].mean() ** 2 for d in (0, 1)]).mean()
    expected = (F.cross_entropy(logits, batch.targets) + weight * penalty) / max(weight, 1.0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


def test_a_weight_below_one_is_never_raised() -> None:
    task = ToyDomains()
    model, batch = task.model(seed=0), task.batch("train", torch.arange(12))
    early, late = IRM(weight=0.5, anneal=0.5), IRM(weight=0.5, anneal=0.0)
    values = [next(iter(r.losses(model.eval(), batch, task, stream(0, "step")))) for r in (early, late)]
    assert torch.equal(*values)


def test_bad_settings_are_refused_by_name() -> None:
    for field, value in (("weight", -1.0), ("anneal", 2.0), ("estimator", "half")):
        with pytest.raises(UserError, match=field):
            IRMSettings(**{field: value})


CASES = [IRMSettings(anneal=0.5), IRMSettings(weight=0.5, estimator="square", rescale=False)]


@pytest.mark.parametrize("check", [c for s in CASES for c in conformance_checks(s, [ToyDomains()])], ids=str)
def test_it_keeps_the_rules(check) -> None:
    check()
