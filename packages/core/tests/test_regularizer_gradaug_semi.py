"""GradAug on unlabelled samples: what is taught, and what stays still."""

import copy

import pytest
import torch

from regathlon_core import GradAug, GradAugSemi, GradAugSemiSettings, PassRole, UserError, run_as
from regathlon_core.rng import stream
from regathlon_core.subnetworks import subnetwork
from regathlon_core.testing import ToyImages, ToyTokens


@pytest.fixture(scope="module")
def task():
    return ToyImages()


def terms(regularizer, model, batch, task):
    regularizer.attach(model, task)
    found = []
    for loss in regularizer.losses(model, batch, task, stream(0, "semi")):
        found.append(float(loss.detach()))
        loss.backward()
    return found


def test_labelled_terms_come_first_and_as_many_unlabelled_ones_follow(task):
    batch = task.batch("train", torch.arange(8))
    plain, semi = task.model(seed=0), task.model(seed=0)
    first = terms(GradAug(n=2), plain, batch, task)
    both = terms(GradAugSemi(n=2), semi, batch, task)
    assert both[:3] == first
    assert len(both) == 3 + 2
    for (name, found), wanted in zip(semi.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(found, wanted), f"unlabelled samples move {name}"


def test_lessons_are_the_full_network_s_outputs(task):
    model = task.model(seed=0).train()
    kept = copy.deepcopy(model)
    batch = task.batch("train", torch.arange(8))
    found = terms(GradAugSemi(n=1, alpha=0.5, always_min=True), model, batch, task)[-1]
    generator = stream(0, "semi")
    next(task.views(batch, generator))  # the labelled sub-network's
    inputs = task.unlabelled(8, generator)
    with torch.no_grad(), run_as(kept, PassRole.SUB):
        reference = kept(inputs)
    view = next(task.views(batch.replace(inputs=inputs), generator))
    with run_as(kept, PassRole.SUB), subnetwork(kept, 0.5, output_layers=task.output_layers(kept)):
        taught = kept(view.batch.inputs)
    wanted = float(task.soft_loss(taught, reference).detach())
    assert found == pytest.approx(wanted, rel=1e-5)


def test_without_unlabelled_samples_nothing_is_added(task):
    batch = task.batch("train", torch.arange(8))
    assert len(terms(GradAugSemi(unlabelled=0.0), task.model(seed=0), batch, task)) == 1 + 3


def test_it_needs_unlabelled_samples():
    assert "training samples without labels" in GradAugSemiSettings().refusal(ToyTokens().settings)
    with pytest.raises(UserError, match="unlabelled must be a number at least 0"):
        GradAugSemi(unlabelled=-1.0)
    with pytest.raises(UserError, match="n must be a whole number"):
        GradAugSemi(n=0)
