"""MLDG: its gradient against finite differences, splits by domain, and passes that leave the model alone."""

import pytest
import torch
from torch import Tensor, nn

from regathlon_core import MLDG, MLDGSettings, UserError
from regathlon_core.regularizers.domains import Borrowing, split_by_domain, take, virtual_step
from regathlon_core.rng import stream
from regathlon_core.testing import ToyDomains, ToyImages, conformance_checks


class Smooth(nn.Module):
    """A smooth model with batch-norm, so that finite differences are exact."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(120, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.norm(self.first(x.flatten(1)))))
        return out


def setting() -> tuple[ToyDomains, nn.Module, object]:
    task = ToyDomains()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Smooth().double().train()
    batch = task.batch("train", torch.arange(12))
    return task, model, batch.replace(inputs=batch.inputs.double())


@pytest.mark.parametrize("first_order", [False, True])
def test_the_gradient_against_finite_differences(first_order: bool) -> None:
    task, model, batch = setting()
    regularizer = MLDG(lr=0.5, beta=0.7, first_order=first_order)
    (loss,) = regularizer.losses(model, batch, task, stream(0, "split"))
    parameters = list(model.parameters())
    grads = torch.autograd.grad(loss, parameters)
    train, test = split_by_domain(batch, stream(0, "split"))

    def objective() -> float:
        before = task.loss(model, train)
        steps = torch.autograd.grad(before, parameters)
        with torch.no_grad():
            for parameter, step in zip(parameters, steps, strict=True):
                parameter -= 0.5 * step
            value = float(before + 0.7 * task.loss(model, test))
            for parameter, step in zip(parameters, steps, strict=True):
                parameter += 0.5 * step
        return value

    assert float(loss.detach()) == pytest.approx(objective(), rel=1e-10)
    directions = [
        torch.randn(p.shape, generator=stream(i, "way"), dtype=p.dtype) for i, p in enumerate(parameters)
    ]

    def moved(by: float) -> float:
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += by * direction
        value = objective()
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter -= by * direction
        return value

    numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5
    exact = sum(float((g * d).sum()) for g, d in zip(grads, directions, strict=True))
    agrees = abs(exact - numeric) < 1e-5 * abs(numeric)
    assert agrees != first_order  # the first-order gradient is another one


def test_only_the_pass_on_the_others_moves_the_statistics() -> None:
    task, model, batch = setting()
    train, _ = split_by_domain(batch, stream(0, "split"))
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    list(MLDG(lr=0.5).losses(model, batch, task, stream(0, "split")))
    after = [buffer.clone() for buffer in model.buffers()]
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())
    _, fresh, _ = setting()
    task.loss(fresh, train)
    assert all(torch.equal(a, b) for a, b in zip(after, fresh.buffers(), strict=True))


def test_every_domain_is_held_out_in_turn_and_parts_are_whole() -> None:
    _, _, batch = setting()
    generator = stream(0, "splits")
    held_out = []
    for _ in range(40):
        train, test = split_by_domain(batch, generator)
        assert sorted(torch.cat([train.index, test.index]).tolist()) == list(range(12))
        assert not set(train.domain.tolist()) & set(test.domain.tolist())
        held_out.append(int(test.domain[0]))
    assert 2 < sum(held_out) < 38
    one = take(batch, torch.nonzero(batch.domain == 0).flatten())
    train, test = split_by_domain(one, generator)
    assert sorted(torch.cat([train.index, test.index]).tolist()) == one.index.tolist()
    assert split_by_domain(take(batch, torch.arange(3)), generator) is None
    plain = ToyImages().batch("train", torch.arange(8))
    assert [len(part.targets) for part in split_by_domain(plain, generator)] == [4, 4]


def test_graphs_cannot_be_taken_apart() -> None:
    batch = ToyDomains().batch("train", torch.arange(4))
    with pytest.raises(UserError, match="dict"):
        take(batch.replace(inputs={}), torch.arange(2))


def test_borrowed_parameters_get_the_gradient() -> None:
    task, model, batch = setting()
    moved = virtual_step(task.loss(model, batch), model, 0.0, second_order=True)
    borrowed = Borrowing(model, {name: value.detach().requires_grad_() for name, value in moved.items()})
    task.loss(borrowed, batch).backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(value.grad is not None for value in borrowed.parameters_by_name.values())


def test_bad_settings_are_refused_by_name() -> None:
    for field in ("lr", "beta"):
        with pytest.raises(UserError, match=field):
            MLDGSettings(**{field: -1.0})


CASES = [MLDGSettings(lr=0.1), MLDGSettings(lr=0.1, first_order=True)]


@pytest.mark.parametrize("check", [c for s in CASES for c in conformance_checks(s, [ToyDomains()])], ids=str)
def test_it_keeps_the_rules(check) -> None:
    check()
