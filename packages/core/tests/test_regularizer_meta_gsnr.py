"""Meta-GSNR: its hypergradient against finite differences, the rows of the ablation, and a trace-free virtual step."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regathlon_core import GSNRDrop, MetaGSNR, MetaGSNRSettings, PassRole, UserError, current_role
from regathlon_core.regularizers.domains import split_by_domain
from regathlon_core.regularizers.meta_gsnr.functional import keep_factor, relaxed_blocks
from regathlon_core.rng import stream
from regathlon_core.task import Batch
from regathlon_core.testing import ToyDomains, conformance_checks


class Smooth(nn.Module):
    """Two smooth convolutions with batch-norm, so that finite differences are exact."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Softplus())
        self.block2 = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, stride=2), nn.BatchNorm2d(6), nn.Softplus())
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.block2(self.block1(x)).mean((2, 3)))
        return out


def setting() -> tuple[ToyDomains, nn.Module, Batch]:
    task = ToyDomains()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Smooth().double().train()
    batch = task.batch("train", torch.arange(18))
    return task, model, batch.replace(inputs=batch.inputs.double())


def meta(regularizer: MetaGSNR, task: Any, model: nn.Module, batch: Batch) -> dict[str, Any]:
    """Everything that one meta step works with."""
    generator = stream(0, "meta")
    train, test = split_by_domain(batch, generator)
    gradients = regularizer._probe(model, train, task, generator.device)
    first, noise = regularizer._first(gradients, generator), regularizer._noise(gradients, generator)
    phi = regularizer.phi.clone().requires_grad_()
    degrees = regularizer._degrees(phi, gradients, noise)
    factors = {place: keep_factor(first[place], degrees[place]) for place in first}
    return {"train": train, "test": test, "phi": phi, "factors": factors}


def tangents(step: dict[str, Any], place: int) -> dict[str, Tensor]:
    """How the masks move with one place's phi: the rows of their Jacobian, one unit at a time."""
    found = {}
    for name, factor in step["factors"].items():
        rows = []
        for unit in factor.flatten():
            (row,) = torch.autograd.grad(unit, step["phi"], retain_graph=True)
            rows.append(row[place])
        found[name] = torch.stack(rows).view_as(factor)
    return found


@pytest.mark.parametrize("m1", ["gsnr", "ones"])
def test_the_hypergradient_against_finite_differences(m1: str) -> None:
    task, model, batch = setting()
    regularizer = MetaGSNR(p=0.2, block_size=2, inner_lr=0.5, m1=m1)
    regularizer.attach(model, task)
    exact, trick = (
        differentiate(model, step["train"], step["test"], task, step["factors"], step["phi"])
        for differentiate in (regularizer._exact, regularizer._difference)
        for step in [meta(regularizer, task, model, batch)]
    )
    step = meta(regularizer, task, model, batch)
    assert bool((exact != 0).all())

    def meta_test_loss(factors: dict[str, Tensor]) -> float:
        """The loss after a step with given masks, on a copy whose weights do move."""
        twin = copy.deepcopy(model)
        for name, factor in factors.items():
            twin.get_submodule(name)._forward_hooks.clear()
            twin.get_submodule(name).register_forward_hook(lambda m, i, out, factor=factor: out * factor)
        loss = task.loss(twin, step["train"])
        grads = torch.autograd.grad(loss, list(twin.parameters()))
        for name in factors:
            twin.get_submodule(name)._forward_hooks.clear()
        with torch.no_grad():
            for parameter, grad in zip(twin.parameters(), grads, strict=True):
                parameter -= 0.5 * grad
            return float(task.loss(twin, step["test"]))

    still = {name: factor.detach() for name, factor in step["factors"].items()}
    for place in range(2):
        ways = tangents(step, place)
        values = [
            meta_test_loss({name: still[name] + by * ways[name] for name in still}) for by in (1e-5, -1e-5)
        ]
        numeric = (values[0] - values[1]) / 2e-5
        assert float(exact[place]) == pytest.approx(numeric, rel=1e-4)
    torch.testing.assert_close(trick, exact, rtol=1e-2, atol=0)
    regularizer.detach()


def test_the_relaxed_blocks_and_their_derivative() -> None:
    noise = torch.rand(1, 3, 4, 6, generator=stream(0, "noise"), dtype=torch.float64)
    p = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    value = relaxed_blocks(p, noise, (6, 8), 3)
    ahead, behind = (relaxed_blocks(p.detach() + by, noise, (6, 8), 3) for by in (1e-6, -1e-6))
    (slope,) = torch.autograd.grad(value.sum(), p)
    assert float(slope) == pytest.approx(float((ahead - behind).sum()) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("shape", [(40, 50), (120,), (11, 12, 13)])
@pytest.mark.parametrize("block", [1, 3])
def test_the_share_that_random_blocks_drop(shape: tuple[int, ...], block: int) -> None:
    places = [side - block + 1 for side in shape]
    gamma = 0.1 * math.prod(shape) / (block ** len(shape) * math.prod(places))
    covers = torch.ones(())  # how many blocks can cover a unit
    for side in shape:
        axis = [min(i, side - block) - max(i - block + 1, 0) + 1 for i in range(side)]
        covers = covers[..., None] * torch.tensor(axis, dtype=torch.float64)
    expected = float((1 - (1 - gamma) ** covers).mean())
    noise = torch.rand(1, 32, *places, generator=stream(0, "noise"), dtype=torch.float64)
    share = float((relaxed_blocks(torch.tensor(0.1).double(), noise, shape, block) > 0.5).double().mean())
    blocks = 32 * math.prod(shape) / block ** len(shape)
    assert abs(share - expected) < 5 * (expected * (1 - expected) / blocks) ** 0.5


@pytest.mark.parametrize(("m1", "m2"), [("zeros", "learned"), ("gsnr", "zeros"), ("zeros", "ones")])
def test_zeros_break_the_network(m1: str, m2: str) -> None:
    task, model, batch = setting()
    regularizer = MetaGSNR(m1=m1, m2=m2, block_size=3)
    regularizer.attach(model, task)
    regularizer.transform(model, batch, task, stream(0, "step"))
    logits = model(batch.inputs)
    regularizer.detach()
    assert torch.equal(logits, logits[:1].expand_as(logits))


def test_without_the_second_mask_it_is_gsnr_dropout_and_learns_nothing() -> None:
    task, model, batch = setting()
    outputs = []
    for regularizer in (MetaGSNR(p=0.2, m2="ones", block_size=3), GSNRDrop(p=0.2, block_size=3)):
        regularizer.attach(model, task)
        before = copy.deepcopy(regularizer.state_dict())
        regularizer.transform(model, batch, task, stream(0, "step"))
        outputs.append(model(batch.inputs))
        assert all(torch.equal(value, before[key]) for key, value in regularizer.state_dict().items())
        regularizer.detach()
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-12, atol=1e-12)


def test_without_the_first_mask_gradients_do_not_matter() -> None:
    task, model, batch = setting()
    masks = []
    for sign in (1.0, -1.0):
        regularizer = MetaGSNR(p=0.2, m1="ones", block_size=2, meta_lr=0.0)
        regularizer.attach(model, task)
        probe = regularizer._probe
        regularizer._probe = lambda *a, sign=sign, probe=probe, **k: {
            place: sign * grads**2 for place, grads in probe(*a, **k).items()
        }
        regularizer.transform(model, batch, task, stream(0, "step"))
        masks.append(regularizer._dropped)
        regularizer.detach()
    assert all(torch.equal(masks[0][place], masks[1][place]) for place in masks[0])
    assert any(bool(mask.any()) for mask in masks[0].values())


def test_first_order_is_refused_because_it_is_zero() -> None:
    with pytest.raises(UserError, match="exactly 0"):
        MetaGSNRSettings(hypergradient="first_order")
    task, model, batch = setting()
    regularizer = MetaGSNR(p=0.2, block_size=2, inner_lr=0.5)
    regularizer.attach(model, task)
    step = meta(regularizer, task, model, batch)
    loss = regularizer._masked_loss(model, step["train"], task, step["factors"])
    grads = torch.autograd.grad(loss, list(model.parameters()))
    moved = {
        name: parameter.detach() - 0.5 * grad
        for (name, parameter), grad in zip(model.named_parameters(), grads, strict=True)
    }
    meta_test = task.criterion(torch.func.functional_call(model, moved, (step["test"].inputs,)), step["test"])
    assert not meta_test.requires_grad
    regularizer.detach()


@pytest.mark.parametrize("hypergradient", ["exact", "difference"])
def test_the_meta_step_leaves_the_model_alone_and_its_test_pass_has_no_masks(hypergradient: str) -> None:
    task, model, batch = setting()
    state = copy.deepcopy(model.state_dict())
    regularizer = MetaGSNR(p=0.3, block_size=2, hypergradient=hypergradient)
    regularizer.attach(model, task)
    seen = []
    loss = task.loss

    def spy(model: nn.Module, batch: Batch) -> Tensor:
        seen.append((current_role(), regularizer._factors is not None, sorted(set(batch.domain.tolist()))))
        return loss(model, batch)

    task.loss = spy
    random = torch.get_rng_state()
    regularizer.transform(model, batch, task, stream(0, "step"))
    masked = {tuple(domains) for role, masks, domains in seen if masks}
    plain = [(role, tuple(domains)) for role, masks, domains in seen if not masks]
    assert {role for role, masks, _ in seen if masks} == {PassRole.SUB}
    assert {role for role, _ in plain} == {PassRole.PROBE}
    assert len(masked) == 1
    assert {(0,), (1,)} == masked | {domains for _, domains in plain if len(domains) == 1}
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    regularizer.detach()


def test_phi_follows_adam() -> None:
    regularizer = MetaGSNR(p=0.2, meta_lr=0.03)
    regularizer.attach(setting()[1], ToyDomains())
    twin = nn.Parameter(regularizer.phi.clone())
    adam = torch.optim.Adam([twin], lr=0.03)
    for step in range(5):
        twin.grad = torch.randn(2, generator=stream(step, "grad"), dtype=torch.float64)
        regularizer._adam(twin.grad)
        adam.step()
    torch.testing.assert_close(regularizer.phi, twin.detach(), rtol=1e-10, atol=1e-12)
    assert not list(regularizer.parameters())
    regularizer.detach()


class TwoFeatures(nn.Module):
    """Features are the inputs' two channels; a linear layer that relies on the first one reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Identity(), nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x).mean(2))
        return out


@pytest.mark.parametrize("spurious", [False, True])
def test_the_ratio_moves_as_the_other_domain_needs(spurious: bool) -> None:
    """Both features explain the meta-train labels; one of them is the wrong way round in the meta-test domain."""
    labels = torch.arange(16) % 2
    sign = 2.0 * labels.double() - 1
    wrong = torch.where(torch.arange(16) >= 8, -sign, sign)
    inputs = torch.stack([wrong, sign] if spurious else [sign, wrong], dim=1)[:, :, None]
    task, model = ToyDomains(), TwoFeatures().double()
    train, test = Batch(inputs[:8], labels[:8]), Batch(inputs[8:], labels[8:])
    regularizer = MetaGSNR(p=0.2, block_size=1, inner_lr=0.1, m1="ones", where=("features",))
    regularizer.attach(model)
    slopes = []
    for seed in range(400):
        gradients = {"features": inputs[:8]}
        noise = regularizer._noise(gradients, stream(seed, "draw"))
        phi = regularizer.phi.clone().requires_grad_()
        degree = regularizer._degrees(phi, gradients, noise)["features"]
        factors = {"features": keep_factor(torch.zeros_like(degree, dtype=torch.bool), degree)}
        slopes.append(float(regularizer._exact(model, train, test, task, factors, phi)))
    regularizer.detach()
    drawn = torch.tensor(slopes)
    score = float(drawn.mean() / (drawn.std() / len(drawn) ** 0.5))
    assert (-score if spurious else score) > 5, (
        score
    )  # descending, the ratio rises where the feature is spurious


CASES = [
    MetaGSNRSettings(p=0.3, block_size=2, meta_lr=0.5),
    MetaGSNRSettings(p=0.3, block_size=2, hypergradient="difference", m1="ones"),
]


@pytest.mark.parametrize("check", [c for s in CASES for c in conformance_checks(s, [ToyDomains()])], ids=str)
def test_it_keeps_the_rules(check) -> None:
    check()
