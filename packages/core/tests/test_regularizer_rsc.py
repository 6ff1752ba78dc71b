"""Representation Self-Challenging: masks by loops, both published forms, traceless probe passes."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from regathlon_core import RSC, FeaturePoint, Mixup, RSCSettings, UserError
from regathlon_core.functional import rsc_channels, rsc_pooled, rsc_positions, rsc_samples
from regathlon_core.rng import stream
from regathlon_core.testing import ToyImages, conformance_checks


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=stream(seed, "noise"), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(3, 5, 7), (3, 5, 4, 6), (2, 3, 2, 3, 4), (2, 5, 1, 1)])
def test_positions_and_channels_by_loops(shape: tuple[int, ...]) -> None:
    x, grads = noise(*shape), noise(*shape, seed=1)
    found_places, found_channels = rsc_positions(x, grads, 1 / 3), rsc_channels(grads, 1 / 3.2)
    assert found_places.shape == (shape[0], 1, *shape[2:])
    for sample in range(shape[0]):
        features, slopes = (t[sample].numpy().reshape(shape[1], -1) for t in (x, grads))
        means = slopes.mean(1)
        scores = (features * means[:, None]).sum(0)
        for mask, values, share in ((found_places, scores, 1 / 3), (found_channels, means, 1 / 3.2)):
            count = min(math.ceil(len(values) * share), len(values) - 1)
            wanted = set(np.argsort(-values)[:count].tolist())
            assert set(mask[sample].flatten().nonzero().flatten().tolist()) == wanted


def test_positions_that_are_not_there_are_neither_counted_nor_chosen() -> None:
    x, grads = noise(2, 3, 9), noise(2, 3, 9, seed=1)
    present = torch.arange(9) < torch.tensor([[9], [4]])
    padded = (x * present[:, None], grads * present[:, None])
    found = rsc_positions(*padded, 1 / 3, present=present)
    alone = rsc_positions(x[1:, :, :4], grads[1:, :, :4], 1 / 3)
    assert torch.equal(found[1, :, :4], alone[0])
    assert not bool(found[1, :, 4:].any())
    assert torch.equal(
        rsc_channels(padded[1], 0.5, present=present)[1], rsc_channels(grads[1:, :, :4], 0.5)[0]
    )


def test_the_pooled_form_is_numpy_s_percentile_on_pooled_features() -> None:
    features, classifier = noise(6, 10, 3, 4), nn.Linear(10, 4).double()
    labels = torch.arange(6) % 4
    leaf = features.clone().requires_grad_()
    pooled = features.mean((2, 3)).requires_grad_()
    (grads,) = torch.autograd.grad(classifier(leaf.mean((2, 3))).gather(1, labels[:, None]).sum(), leaf)
    (direct,) = torch.autograd.grad(classifier(pooled).gather(1, labels[:, None]).sum(), pooled)
    limits = np.percentile(direct.numpy(), (1 - 1 / 3) * 100, axis=1)
    assert torch.equal(rsc_pooled(grads, 1 / 3)[:, :, 0, 0], direct >= torch.from_numpy(limits)[:, None])
    losses = noise(9).numpy()
    found = rsc_samples(torch.from_numpy(losses), torch.zeros(9, dtype=torch.float64), 0.4, variant="pooled")
    assert found.tolist() == (losses >= np.percentile(losses, 60)).tolist()


@pytest.mark.parametrize("share", [0.0, 1 / 3, 0.5, 1.0])
def test_samples_that_lose_most(share: float) -> None:
    before, after = torch.full((9,), 0.9), torch.linspace(0.1, 0.8, 9).flip(0)
    found = rsc_samples(before, after, share)
    assert found.tolist() == [rank >= 9 - round(9 * share) for rank in range(9)]
    assert not bool(rsc_samples(after, after, 1.0).any())  # nothing is lost, so nothing is muted


class TwoParts(nn.Module):
    """A map and what is made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.block2 = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.Softplus())
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.block2(x).mean((2, 3)))
        return out


@pytest.mark.parametrize("variant", ["map", "pooled"])
@pytest.mark.parametrize("mode", ["spatial", "channel"])
def test_the_step_equals_the_recipe_written_out(variant: str, mode: str) -> None:
    task = ToyImages()
    task.features = lambda model: [FeaturePoint("block2", channels=6)]  # type: ignore[method-assign]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TwoParts().double().train()
    batch = task.batch("train", torch.arange(12))
    batch = batch.replace(inputs=batch.inputs.double())
    regularizer = RSC(variant=variant, mode=mode, samples=0.5)
    regularizer.attach(model, task)
    regularizer.transform(model, batch, task, stream(0, "step"))
    found = model(batch.inputs)
    regularizer.detach()

    z = model.block2(batch.inputs).detach().requires_grad_()
    logits = model.head(z.mean((2, 3)))
    (grads,) = torch.autograd.grad(logits[torch.arange(12), batch.targets].sum(), z)
    if variant == "pooled":
        mask = rsc_pooled(grads, 1 / 3)
    else:
        mask = rsc_positions(z, grads, 1 / 3) if mode == "spatial" else rsc_channels(grads, 1 / 3.2)
    muted = model.head((z * ~mask).mean((2, 3)))
    before, after = (p.softmax(1)[torch.arange(12), batch.targets] for p in (logits, muted))
    chosen = rsc_samples(before.detach(), after.detach(), 0.5, variant=variant)
    assert 0 < int(chosen.sum()) < 12
    torch.testing.assert_close(found, torch.where(chosen[:, None], muted, logits), rtol=1e-12, atol=1e-12)


def test_the_probes_leave_no_trace() -> None:
    task = ToyImages()
    model = task.model(seed=0).train()
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    before = torch.get_rng_state()
    regularizer = RSC(samples=1.0)
    regularizer.attach(model, task)
    regularizer.transform(model, task.batch("train", torch.arange(16)), task, stream(0, "probe"))
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    assert torch.equal(torch.get_rng_state(), before)
    regularizer.detach()


def test_the_curriculum_goes_by_thirds() -> None:
    regularizer = RSC(schedule="curriculum")
    shares = [regularizer.schedule(progress) for progress in (0.0, 0.3, 0.34, 0.6, 0.7, 1.0)]
    assert shares == pytest.approx([0.3, 0.3, 0.5, 0.5, 0.7, 0.7])


def test_mixed_labels_count_by_weight() -> None:
    task = ToyImages()
    model = task.model(seed=0).train()
    batch = task.batch("train", torch.arange(12))
    mixed = Mixup(alpha=1.0).transform(model, batch, task, stream(0, "mix"))
    whole = mixed.replace(mixed=type(mixed.mixed)(mixed.mixed.targets, torch.ones(12)))
    masks = []
    for given in (whole.replace(mixed=None), whole, mixed):
        regularizer = RSC(mode="channel", samples=1.0)
        regularizer.attach(model, task)
        regularizer.transform(model, given, task, stream(0, "step"))
        masks.append(regularizer._muted)
        regularizer.detach()
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_bad_settings_are_refused_by_name() -> None:
    for field, value in (
        ("spatial", 1.0),
        ("channel", -0.1),
        ("samples", 1.5),
        ("mode", "spacial"),
        ("variant", "x"),
    ):
        with pytest.raises(UserError, match=field):
            RSCSettings(**{field: value})
    task = ToyImages()
    with pytest.raises(UserError, match="one place"):
        RSC(where=("block1", "block2")).attach(task.model(0), task)


VARIANTS = [RSCSettings(variant="pooled", samples=0.5), RSCSettings(schedule="curriculum", mode="spatial")]


@pytest.mark.parametrize(
    "check", [c for s in VARIANTS for c in conformance_checks(s, [ToyImages()])], ids=str
)
def test_variants_keep_the_rules(check) -> None:
    check()
