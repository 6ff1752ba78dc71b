"""What an explanation leaves behind (nothing), what it refuses, and what it costs."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from regathlon_core import PassRole, UserError, current_role
from regathlon_core.attribution import (
    COMPOSITES,
    Composite,
    Epsilon,
    gradient_x_input,
    integrated_gradients,
    lrp,
    relevance_rank_accuracy,
)


class Net(nn.Module):
    """A small residual network with everything that a pass could leave a trace on."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.branch = nn.Sequential(
            nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.Dropout(0.5)
        )
        self.head = nn.Linear(6, 4)
        self.fails = False
        self.roles: list[PassRole] = []

    def forward(self, x: Tensor) -> Tensor:
        self.roles.append(current_role())
        torch.rand(3)  # some models draw numbers even in evaluation
        x = F.relu(self.norm(self.stem(x)), inplace=True)
        out = self.branch(x)
        out += x
        if self.fails:
            raise RuntimeError("on purpose")
        return self.head(F.relu(out).mean((2, 3)))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def everything_of(model: nn.Module) -> dict[str, Any]:
    """Return all that a pass could change, in comparable form."""
    return {
        "state": {key: value.clone() for key, value in model.state_dict().items()},
        "flags": [module.training for module in model.modules()],
        "keys": [sorted(vars(module)) for module in model.modules()],
        "hooks": [
            len(hooks)
            for module in model.modules()
            for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        ],
        "forwards": [module.forward for module in model.modules()],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "requires": [p.requires_grad for p in model.parameters()],
        "versions": [p._version for p in model.parameters()],
        "random": torch.get_rng_state(),
        "grad mode": torch.is_grad_enabled(),
    }


def assert_same(before: Any, after: Any) -> None:
    if isinstance(before, Tensor):
        assert torch.equal(before, after)
    elif isinstance(before, dict):
        assert before.keys() == after.keys()
        for key in before:
            assert_same(before[key], after[key])
    elif isinstance(before, list):
        for one, other in zip(before, after, strict=True):
            assert_same(one, other)
    else:
        assert before == after


EXPLAIN: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    **{name: lambda model, x, name=name: lrp(model, x, 1, name) for name in COMPOSITES},
    "gradient_x_input": lambda model, x: gradient_x_input(model, x, 1),
}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", EXPLAIN)
def test_no_trace_is_left(name: str, fails: bool, x: Tensor) -> None:
    model = Net().train()
    model.norm.eval()  # frozen by the user
    model.head.bias.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    image = x.clone().requires_grad_()
    before = everything_of(model)
    model.fails = fails
    if fails:
        with pytest.raises(RuntimeError, match="on purpose"):
            EXPLAIN[name](model, image)
    else:
        relevance = EXPLAIN[name](model, image)
        assert relevance.shape == x.shape
        assert not relevance.requires_grad
        assert relevance.isfinite().all()
    assert_same(before, everything_of(model))
    assert torch.equal(image.detach(), x)
    assert image.grad is None
    assert image.requires_grad
    assert model.roles == [PassRole.ATTRIBUTION]
    assert current_role() is PassRole.FULL


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_works_under_every_gradient_mode(mode: Callable[[], Any], x: Tensor) -> None:
    model = Net()
    wanted = lrp(model, x, 1)
    with mode():
        assert torch.equal(lrp(model, x, 1), wanted)
        assert torch.equal(gradient_x_input(model, x, 1), gradient_x_input(model, x, 1))


def test_autocast_is_off(x: Tensor) -> None:
    model = Net()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        relevance = lrp(model, x, 1)
    assert torch.equal(relevance, lrp(model, x, 1))


def test_inference_tensors_can_be_explained(x: Tensor) -> None:
    model = Net()
    with torch.inference_mode():
        inputs = x.clone()
    torch.testing.assert_close(lrp(model, inputs, 1), lrp(model, x, 1))


def test_wrappers_are_looked_through(x: Tensor) -> None:
    model = Net()
    assert torch.equal(lrp(nn.DataParallel(model), x, 1), lrp(model, x, 1))
    assert torch.equal(gradient_x_input(nn.DataParallel(model), x, 1), gradient_x_input(model, x, 1))


def test_shared_modules_are_seen_per_call(x: Tensor) -> None:
    class Twice(nn.Module):
        def __init__(self, first: nn.Module, second: nn.Module) -> None:
            super().__init__()
            self.first, self.second, self.relu = first, second, nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.second(self.relu(self.first(x)))).mean((2, 3))

    layer = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3))
    composite = Composite()
    shared = lrp(Twice(layer, layer), x, 1, composite)
    torch.testing.assert_close(shared, lrp(Twice(layer, copy.deepcopy(layer)), x, 1, composite))


# ---- objects as inputs -----------------------------------------------------------------------------------


def test_any_object_with_wrt(x: Tensor) -> None:
    model = Net()
    batch = {"image": x, "weight": torch.ones(2, 1)}

    def forward(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return model(batch["image"]) * batch["weight"]

    def image(batch: dict[str, Tensor]) -> Tensor:
        return batch["image"]

    relevance = lrp(model, batch, 1, wrt=image, forward=forward)
    torch.testing.assert_close(relevance, lrp(model, x, 1))
    gradient = gradient_x_input(model, batch, 1, wrt=image, forward=forward)
    torch.testing.assert_close(gradient, gradient_x_input(model, x, 1))
    assert not x.requires_grad
    # Relative to a hidden tensor: only what depends on it is explained.
    weight = lrp(model, batch, 1, wrt=lambda batch: batch["weight"], forward=forward)
    assert weight.tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize(
    "after",
    [
        lambda y: y * 1.0,
        lambda y: y / 2.5,
        lambda y: y + 0.0,
        lambda y: 1.0 * y.unsqueeze(0).squeeze(0),
        lambda y: y.reshape(y.shape[0], -1).contiguous(),
        lambda y: torch.log_softmax(y / 2.5, dim=1),
        lambda y: y[:, :],
        lambda y: torch.mul(y, 2.0).mul_(3.0),
    ],
    ids=[
        "times one",
        "temperature",
        "plus zero",
        "axes",
        "reshape",
        "softmax of a temperature",
        "slice",
        "in place",
    ],
)
@pytest.mark.parametrize("composite", ["epsilon_plus_flat", "official_2d"])
def test_calls_that_carry_logits_along_leave_the_classifier_the_last_layer(
    after: Callable[[Tensor], Tensor], composite: str, x: Tensor
) -> None:
    torch.manual_seed(3)
    model = Net()
    relevance = lrp(model, x, 1, composite, forward=lambda model, x: after(model(x)))
    torch.testing.assert_close(relevance, lrp(model, x, 1, composite))


@pytest.mark.parametrize(
    "after",
    [lambda y: y + y, lambda y: y.relu(), lambda y: 1.0 / y, lambda y: y / y.detach().norm().sigmoid() * y],
    ids=["two heads", "relu", "denominator", "square"],
)
def test_a_call_that_makes_something_else_of_logits_leaves_no_last_layer(
    after: Callable[[Tensor], Tensor], x: Tensor
) -> None:
    torch.manual_seed(3)  # weights with which the rule of the last layer clearly matters
    model = Net()
    relevance = lrp(model, x, 1, forward=lambda model, x: after(model(x)))
    assert relevance.isfinite().all()
    assert not torch.allclose(relevance, lrp(model, x, 1))


# ---- refusals --------------------------------------------------------------------------------------------


class Strange(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def test_a_call_without_a_rule_is_named_with_its_layer(x: Tensor) -> None:
    model = nn.Sequential(nn.Flatten(), nn.ModuleDict({"odd": Strange(lambda x: torch.cumprod(x, 1))})["odd"])
    with pytest.raises(UserError, match=r"no relevance rule for cumprod\(\), which layer '1' calls"):
        lrp(model, x, 0)
    with pytest.raises(UserError, match=r"no relevance rule for lstm\(\)"):
        lrp(Strange(nn.LSTM(6, 4, batch_first=True)).eval(), x[:, 0], 0, forward=lambda m, x: m(x)[0][:, -1])


def test_a_call_without_a_rule_is_no_matter_where_no_relevance_flows(x: Tensor) -> None:
    def nearest(x: Tensor) -> Tensor:
        return x.flatten(1).gather(1, torch.cdist(x.flatten(1), x.flatten(1)).argsort(1)[:, :2])

    assert lrp(Strange(nearest), x, 0).sum((1, 2, 3)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (4, "Class 4 is asked for; the model has classes 0 to 3"),
        (torch.tensor([0, -1]), "Class -1 is asked for"),
        (torch.tensor([0, 1, 2]), r"one class per sample \(2 of them\)"),
        (torch.ones(2, 3), r"Class weights are \(2, 3\)"),
        (1.5, "one class or one class per sample"),
        (torch.tensor([True, False]), "not torch.bool"),
    ],
)
def test_bad_targets(target: Any, message: str, x: Tensor) -> None:
    model = Net()
    for explain in (lrp, gradient_x_input):
        with pytest.raises(UserError, match=message):
            explain(model, x, target)


def test_bad_arguments(x: Tensor) -> None:
    model = Net()
    with pytest.raises(UserError, match="Did you mean 'epsilon_plus_flat'"):
        lrp(model, x, 0, "epsilon_plus_flatt")
    with pytest.raises(UserError, match="init is 'one' or 'logit'"):
        lrp(model, x, 0, init="two")  # type: ignore[arg-type]
    for explain in (lrp, gradient_x_input):
        with pytest.raises(UserError, match=r"are a dict, not a tensor.*wrt=lambda"):
            explain(model, {"x": x}, 0)
        with pytest.raises(UserError, match=r"torch.int64 cannot be explained"):
            explain(model, x.long(), 0)
        with pytest.raises(UserError, match=r"returned shape \(2, 6, 6, 6\); explaining starts from logits"):
            explain(model.stem, x, 0)
        with pytest.raises(UserError, match=r"returned a tuple"):
            explain(Strange(lambda x: (x, x)), x, 0)  # type: ignore[arg-type,return-value]
        with pytest.raises(UserError, match="does not depend on the explained tensor"):
            explain(Strange(lambda x: torch.ones(2, 3)), x, 0)


def test_nothing_reached(x: Tensor) -> None:
    with pytest.raises(UserError, match="does not depend"):
        lrp(Strange(lambda x: x.detach().flatten(1)), x, 0)
    values = torch.ones(1, 1, 2)

    def asked(x: Tensor) -> Tensor:  # the input chooses among constants
        return F.scaled_dot_product_attention(x.flatten(1)[:, None, :2], values, values)[:, 0]

    for function in (asked, lambda x: x.flatten(1).fill_(1.0)):
        with pytest.raises(UserError, match="No relevance reached"):
            lrp(Strange(function), x.clone(), 0)


def test_changes_through_a_view_are_refused(x: Tensor) -> None:
    def hidden(x: Tensor) -> Tensor:
        y = x * 2
        y[:, :1].add_(1)
        return y.flatten(1)

    def filled(x: Tensor) -> Tensor:
        y = torch.zeros(2, 3, 6, 6)
        y[:, :1].copy_(x[:, :1])
        return y.flatten(1) + x.flatten(1)

    for function in (hidden, filled):
        with pytest.raises(UserError, match="overwritten in place through another tensor"):
            lrp(Strange(function), x, 0)
    with pytest.raises(UserError, match=r"calls add\(out=...\)"):
        lrp(Strange(lambda x: torch.add(x, 1, out=torch.empty(2, 3, 6, 6)).flatten(1)), x, 0)


# ---- cost ------------------------------------------------------------------------------------------------


class Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("composite", "forward"),
    [("epsilon_plus_flat", 4), ("epsilon_norm", 3), ("epsilon", 2), ("epsilon_plus", 5)],
)
def test_convolutions(composite: str, forward: int, x: Tensor) -> None:
    # Two layers forwards, and two back. z+ adds one per layer behind a ReLU (two on inputs of either sign,
    # there and back); flat counts receptive fields once, on one channel; ε needs nothing more.
    backward = 3 if composite == "epsilon_plus" else 2
    model = Net()
    with Counting() as counting:
        lrp(model, x, 1, composite)
    assert counting.counts["convolution"] == forward
    assert counting.counts["convolution_backward"] == backward


def test_no_device_synchronisation(x: Tensor) -> None:
    class Forbidding(Counting):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            assert func.overloadpacket.__name__ not in ("_local_scalar_dense", "nonzero")
            return super().__torch_dispatch__(func, types, args, kwargs)

    weights = F.one_hot(torch.tensor([1, 2]), 4).float()  # class numbers on a CPU are looked at
    with Forbidding():
        lrp(Net(), x, weights)


# ---- alternatives and diagnostics ------------------------------------------------------------------------


def test_gradient_times_input_by_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    x = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    step = 1e-6
    for i in range(3):
        shift = step * torch.eye(3, dtype=torch.float64)[i]
        with torch.no_grad():
            slope = (model(x + shift)[:, 1] - model(x - shift)[:, 1]) / (2 * step)
        torch.testing.assert_close(gradient_x_input(model, x, 1)[:, i], slope * x[:, i], rtol=1e-6, atol=1e-8)


def test_integrated_gradients_say_what_to_install(monkeypatch: pytest.MonkeyPatch, x: Tensor) -> None:
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    with pytest.raises(UserError, match="pip install captum"):
        integrated_gradients(Net(), x, 1)


def test_integrated_gradients_are_complete(x: Tensor) -> None:
    pytest.importorskip("captum")
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.Tanh(), nn.Linear(8, 3))
    before = everything_of(model)
    attribution = integrated_gradients(model, x, torch.tensor([0, 2]), steps=64)
    assert_same(before, everything_of(model))
    with torch.no_grad():
        rise = model(x) - model(torch.zeros_like(x))
    torch.testing.assert_close(attribution.sum((1, 2, 3)), rise[[0, 1], [0, 2]], rtol=1e-3, atol=1e-4)


def test_relevance_rank_accuracy() -> None:
    relevance = torch.arange(16.0).view(1, 4, 4).expand(4, 4, 4)
    mask = torch.zeros(4, 4, 4, dtype=torch.bool)
    mask[0].view(-1)[10:] = True  # exactly the most relevant
    mask[1].view(-1)[:6] = True  # the least relevant
    mask[2].view(-1)[[15, 0]] = True
    accuracy = relevance_rank_accuracy(relevance, mask)
    assert accuracy[:3].tolist() == [1.0, 0.0, 0.5]
    assert accuracy[3].isnan()  # there is nothing to find
    with pytest.raises(UserError, match="must agree"):
        relevance_rank_accuracy(relevance, mask[:, :2])


def test_epsilon_of_composites_reaches_sums() -> None:
    x = torch.tensor([[1.0, 1.0]])
    model = Strange(lambda x: x[:, :1] + x[:, 1:])
    assert lrp(model, x, 0, Composite(linear=Epsilon(), epsilon=2.0)).tolist() == [[0.25, 0.25]]
