"""What ``subnetwork`` promises besides its numbers (see test_subnetwork_zoo.py for those)."""

from __future__ import annotations

import copy
import random
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core import FeatureRegularizer, PassRole, RegularizerSettings, UserError, current_role, run_as
from regathlon_core.subnetworks import kept_channels, register_rule, subnetwork


class Net(nn.Module):
    """Two residual stages with batch-norm, dropout and a linear head."""

    def __init__(self, a: int = 8, b: int = 12) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, a, 3, padding=1, bias=False), nn.BatchNorm2d(a)
        self.one, self.bn1 = nn.Conv2d(a, a, 3, padding=1, bias=False), nn.BatchNorm2d(a, momentum=None)
        self.two, self.bn2 = nn.Conv2d(a, b, 3, stride=2, bias=False), nn.SyncBatchNorm(b)
        self.drop, self.fc = nn.Dropout(0.25), nn.Linear(b, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)))
        x = F.relu(x + self.bn1(self.one(x)))
        x = F.relu(self.bn2(self.two(x)))
        return self.fc(self.drop(x.mean((2, 3))))


def net(seed: int = 0) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net().double()


def batch(*shape: int) -> Tensor:
    return torch.randn(
        *(shape or (5, 3, 8, 8)), generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )


def buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


# ---- widths ------------------------------------------------------------------------------------------------


def test_kept_channels_follow_the_papers_tables() -> None:
    assert [kept_channels(c, 0.8) for c in (16, 160, 320, 640)] == [13, 128, 256, 512]
    assert [kept_channels(c, 0.9) for c in (256, 512, 1024, 2048)] == [230, 461, 922, 1843]
    assert [kept_channels(c, 0.9, 0.25) for c in (64, 128, 256, 512)] == [57, 115, 230, 460]


@pytest.mark.parametrize("divisor", [0.25, 1, 3, 8])
def test_kept_channels_are_monotone_and_in_range(divisor: float) -> None:
    widths = [w / 1000 for w in range(1, 1001)]
    for channels in (1, 2, 7, 16, 57, 64, 240):
        counts = [kept_channels(channels, width, divisor) for width in widths]
        assert counts == sorted(counts)
        assert counts[0] >= 1
        assert counts[-1] == channels


def test_divisors_apply_per_layer_and_to_whole_groups() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 60, 1),
        nn.Conv2d(60, 60, 1, groups=15),
        nn.GroupNorm(15, 60),
        nn.Conv2d(60, 30, 1),
        nn.Conv2d(30, 5, 1),
    )
    with subnetwork(model, 0.7, divisor=8) as sub:
        model(torch.randn(2, 3, 4, 4))
    assert len(sub.kept("1.weight") or ()) == 40  # groups of 4 channels: a multiple of 8 near 0.7 · 60
    assert len(sub.kept("3.weight") or ()) == 24
    with subnetwork(model, 0.7, divisor={"3": 10.0}) as sub:
        model(torch.randn(2, 3, 4, 4))
    assert len(sub.kept("0.weight") or ()) == 4 * 11
    assert len(sub.kept("3.weight") or ()) == 20
    residual = Net()
    with (
        pytest.raises(UserError, match=r"stem.weight .*one.weight .*same|same.*(stem|one).weight"),
        subnetwork(residual, 0.5, divisor={"stem": 2.0}),
    ):
        residual(torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize("width", [0, -0.5, 1.01, float("nan")])
def test_a_width_out_of_range_is_an_error(width: float) -> None:
    with pytest.raises(UserError, match="width"), subnetwork(net(), width):
        pass


def test_a_tiny_width_leaves_one_channel_or_group() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=4), nn.Conv2d(8, 2, 1)).double()
    x = batch(2, 3, 5, 5)
    with subnetwork(model, 0.01) as sub:
        out = model(x)
    assert sub.kept("1.weight") == (0, 1)
    expected = F.conv2d(x, model[0].weight[:2], model[0].bias[:2])
    expected = F.conv2d(expected, model[1].weight[:2], model[1].bias[:2])
    torch.testing.assert_close(
        out, F.conv2d(expected, model[2].weight[:, :2], model[2].bias), rtol=1e-12, atol=1e-12
    )


# ---- passes ------------------------------------------------------------------------------------------------


def test_width_one_is_the_model_bit_for_bit() -> None:
    model, x = net(), batch()
    model.drop.p = 0.0
    expected = copy.deepcopy(model)(x)
    before = buffers(model)
    with subnetwork(model, 1.0):
        assert torch.equal(model(x), expected)
    assert same(buffers(model), before)
    model.eval()
    with subnetwork(model, 1.0):
        assert torch.equal(model(x), copy.deepcopy(model)(x))


def test_a_step_with_sub_passes_moves_buffers_as_the_full_pass_alone() -> None:
    alone, together, x = net(), net(), batch()
    alone(x)
    together(x)
    for width in (1.0, 0.5, 0.8):
        with subnetwork(together, width):
            together(x).sum().backward()
    assert same(buffers(alone), buffers(together))
    assert all(parameter.grad is not None for parameter in together.parameters())


def test_gradients_outside_of_the_kept_channels_are_those_of_the_full_pass() -> None:
    model, x = net(), batch()
    model.drop.p = 0.0
    model(x).square().sum().backward()
    full = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    with subnetwork(model, 0.5):
        model(x).square().sum().backward()
    assert torch.equal(model.one.weight.grad[4:], full["one.weight"][4:])
    assert torch.equal(model.one.weight.grad[:, 4:], full["one.weight"][:, 4:])
    assert not torch.equal(model.one.weight.grad[:4, :4], full["one.weight"][:4, :4])


def test_deferred_gradients_are_the_same() -> None:
    class Scattered(nn.Module):  # rows and columns of ``mix`` are segments
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 6), nn.Linear(3, 8)
            self.mix, self.out = nn.Linear(14, 10, bias=False), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            left, right = self.mix(torch.cat([self.a(x), self.b(x)], 1)).chunk(2, 1)
            return self.out(left * right) + self.out(right)

    for model, x in ((net().eval(), batch()), (Scattered().double(), batch(4, 3))):
        with subnetwork(model, 0.6):
            model(x).square().sum().backward()
        expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
        model.zero_grad()
        with subnetwork(model, 0.6, defer_gradients=True):
            model(x).square().sum().backward()
            model(x).square().sum().backward()
        with subnetwork(model, 0.6, defer_gradients=True), torch.no_grad():
            model(x)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, 2 * expected[name], rtol=1e-12, atol=1e-12, msg=name)


def test_evaluation_uses_the_running_statistics_of_the_kept_channels() -> None:
    model, x = net(), batch()
    for _ in range(3):
        model(x)
    model.eval()
    before = buffers(model)
    with subnetwork(model, 0.5):
        out = model(x)
        assert not model.bn.training
    y = F.conv2d(x, model.stem.weight[:4], padding=1)
    y = F.relu(
        F.batch_norm(
            y,
            *(t[:4] for t in (model.bn.running_mean, model.bn.running_var)),
            *(t[:4] for t in (model.bn.weight, model.bn.bias)),
        )
    )
    z = F.batch_norm(
        F.conv2d(y, model.one.weight[:4, :4], padding=1),
        model.bn1.running_mean[:4],
        model.bn1.running_var[:4],
        model.bn1.weight[:4],
        model.bn1.bias[:4],
    )
    y = F.conv2d(F.relu(y + z), model.two.weight[:6, :4], stride=2)
    y = F.batch_norm(
        y, model.bn2.running_mean[:6], model.bn2.running_var[:6], model.bn2.weight[:6], model.bn2.bias[:6]
    )
    expected = F.linear(F.relu(y).mean((2, 3)), model.fc.weight[:, :6], model.fc.bias)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    assert same(buffers(model), before)


def test_passes_have_the_role_sub_unless_one_was_given() -> None:
    roles = []
    model, x = net(), batch()
    model.fc.register_forward_hook(lambda *_: roles.append(current_role()))
    with subnetwork(model, 0.5):
        model(x)
    with run_as(model, PassRole.ATTRIBUTION), subnetwork(model, 0.5):
        model(x)
        assert not model.bn.training
    assert set(roles) == {PassRole.SUB, PassRole.ATTRIBUTION}


def test_everything_is_restored_after_an_exception() -> None:
    model, x = net(), batch()
    model.bn1.eval()
    flags = [(module.training, getattr(module, "track_running_stats", None)) for module in model.modules()]
    before, expected = buffers(model), set(vars(model))

    def fail(*_: Any) -> None:
        raise RuntimeError("inside")

    handle = model.fc.register_forward_hook(fail)
    for width in (0.5, 1.0):
        with pytest.raises(RuntimeError, match="inside"), subnetwork(model, width):
            model(x)
    handle.remove()
    assert flags == [
        (module.training, getattr(module, "track_running_stats", None)) for module in model.modules()
    ]
    assert same(buffers(model), before)
    assert set(vars(model)) == expected
    assert torch.overrides._get_current_function_mode_stack() == []
    with subnetwork(model, 0.5):  # a trace that failed is not remembered
        assert model(x).shape == (5, 4)


def test_a_module_that_writes_its_own_buffers_finds_them_as_they_were() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.register_buffer("last", torch.zeros(6))
            self.lin, self.out = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            x = self.lin(x)
            self.last = x.detach().mean(0)
            return self.out(x)

    model = Counter()
    calls, last = model.calls, model.last
    with subnetwork(model, 0.5):
        model(torch.randn(4, 3))
    assert model.calls is calls
    assert model.last is last
    assert float(calls) == 0


def test_the_trace_gives_random_numbers_back() -> None:
    """Whether a sub-network runs for the first time does not show in any random stream, so that a resume is exact."""

    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 6), nn.Linear(6, 2)
            self.generator = torch.Generator().manual_seed(0)

        def forward(self, x: Tensor) -> Tensor:
            x = F.dropout(self.a(x), 0.5) + torch.randn(x.shape[0], 6, generator=self.generator)
            return self.b(x) * random.random() * np.random.rand()  # noqa: NPY002

    def draws(model: Noisy) -> list[float]:
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        model.generator.manual_seed(0)
        with subnetwork(model, 0.5):
            out = model(torch.ones(4, 3))
        last = [torch.rand(()), torch.rand((), generator=model.generator)]
        return [*out.flatten().tolist(), *map(float, last), random.random(), np.random.rand()]  # noqa: NPY002

    model = Noisy()
    first = draws(model)
    assert first == draws(model)


# ---- output layers -----------------------------------------------------------------------------------------


def test_what_the_model_returns_is_whole() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.mask, self.score = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1), nn.Linear(8, 6)

        def forward(self, x: Tensor) -> tuple[Tensor, dict[str, list[Tensor]]]:
            x = self.stem(x)
            return self.mask(x), {"score": [self.score(x.mean((2, 3))).softmax(1)]}

    model = Two()
    with subnetwork(model, 0.5) as sub:
        mask, rest = model(torch.randn(2, 3, 4, 4))
    assert mask.shape == (2, 5, 4, 4)
    assert rest["score"][0].shape == (2, 6)
    assert sub.kept("stem.weight") == (0, 1, 2, 3)
    assert sub.kept("mask.weight", 1) == (0, 1, 2, 3)


def test_named_output_layers_win() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4)), nn.Linear(4, 10))
    with subnetwork(model, 0.5, output_layers=["1"]) as sub:
        assert model(torch.randn(2, 3)).shape == (2, 5)  # as it is not named
    assert sub.kept("0.weight") == (0, 1, 2, 3)
    assert sub.kept("1.0.weight") is None
    assert sub.kept("1.1.weight") is None


def test_a_loss_inside_the_model_needs_its_output_layers_named() -> None:
    class Scored(nn.Sequential):
        def forward(self, x: Tensor, target: Tensor) -> Tensor:
            return F.cross_entropy(super().forward(x), target)

    model = Scored(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 5))
    x, target = torch.randn(4, 3), torch.tensor([0, 4, 2, 1])
    with pytest.raises(UserError, match=r"output layer of Scored.*output_layers"), subnetwork(model, 0.5):
        model(x, target)
    with subnetwork(model, 0.5, output_layers=["2"]) as sub:
        model(x, target)
    assert sub.kept("0.weight") == (0, 1, 2, 3)


def test_names_that_are_wrong() -> None:
    model = net()
    with (
        pytest.raises(UserError, match=r"no layer 'fcc'\. Did you mean 'fc'"),
        subnetwork(model, 0.5, output_layers=["fcc"]),
    ):
        pass
    with (
        pytest.raises(UserError, match="'drop' holds no layer that ran"),
        subnetwork(model, 0.5, output_layers=["drop"]),
    ):
        model(batch())


def test_blocks_that_do_nothing_or_too_much_are_errors() -> None:
    model, x = net(), batch()
    with (
        pytest.raises(UserError, match="inside a sub-network block already"),
        subnetwork(model, 0.5),
        subnetwork(model, 0.9),
    ):
        model(x)
    with pytest.raises(UserError, match="was not called"), subnetwork(model, 0.5):
        model.stem(x)


# ---- calls without a rule ----------------------------------------------------------------------------------


class Odd(nn.Module):
    """Calls a function that torch knows nothing of."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.block = nn.ModuleDict({"lin": nn.Linear(3, 8), "act": _Apply(function)})
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.block["act"](self.block["lin"](x)))


class _Apply(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _custom(body: Any) -> Any:
    def custom(x: Tensor) -> Tensor:
        return body(x)

    return torch.overrides.wrap_torch_function(lambda x: (x,))(custom)


def test_a_call_without_a_rule_names_the_call_and_the_layer() -> None:
    model, x = Odd(lambda y: torch.linalg.pinv(y).T), torch.randn(4, 3)
    for _ in range(2):
        with pytest.raises(UserError, match=r"no rule.*pinv.*layer 'block.act'"), subnetwork(model, 0.5):
            model(x)
    with subnetwork(model, 0.5, output_layers=["block", "out"]):  # where nothing is narrow, no rule is needed
        assert torch.equal(model(x), Odd.forward(model, x))


def test_a_call_without_a_rule_after_the_output_is_no_error() -> None:
    class Inverse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.b(self.a(x))
            return y, torch.linalg.inv(y)

    model = Inverse()
    with subnetwork(model, 0.5) as sub:
        y, inverse = model(torch.eye(4, 3))
    assert y.shape == inverse.shape == (4, 4)
    assert sub.kept("a.weight") == (0, 1, 2, 3)


def test_rules_can_be_registered() -> None:
    x = batch(4, 3)

    def expected(model: Odd, body: Any) -> Tensor:
        lin = model.block["lin"]
        return F.linear(
            body(F.linear(x, lin.weight[:4], lin.bias[:4])), model.out.weight[:, :4], model.out.bias
        )

    for rule, body in [
        ("elementwise", torch.cos),
        ("same", lambda y: y.softmax(-1)),
        (lambda y: y.sin() * y.sum(1, keepdim=True), lambda y: y.sin() * y.sum(1, keepdim=True)),
    ]:
        function = _custom(body)
        register_rule(function, rule)  # type: ignore[arg-type]
        model = Odd(function).double()
        with subnetwork(model, 0.5):
            torch.testing.assert_close(model(x), expected(model, body), rtol=1e-12, atol=1e-12)
    function = _custom(lambda y: y.flip(-1))
    register_rule(function, "whole")
    model = Odd(function)
    with subnetwork(model, 0.5) as sub:
        model(torch.randn(4, 3))
    assert sub.kept("block.lin.weight") is None
    with pytest.raises(UserError, match="elementwise"):
        register_rule(torch.cos, "elementwisee")  # type: ignore[arg-type]


# ---- together with other machinery -------------------------------------------------------------------------


def test_functional_call_slices_the_tensors_it_is_given() -> None:
    model, other, x = net(0).eval(), net(1).eval(), batch()
    with subnetwork(other, 0.5):
        expected = other(x)
    state = {**dict(other.named_parameters()), **dict(other.named_buffers())}
    leaves = {
        name: tensor.detach().clone().requires_grad_(tensor.requires_grad) for name, tensor in state.items()
    }
    with subnetwork(model, 0.5):
        out = torch.func.functional_call(model, leaves, (x,))
    assert torch.equal(out, expected)
    out.sum().backward()
    assert model.fc.weight.grad is None
    assert torch.count_nonzero(leaves["fc.weight"].grad) == 4 * 6


def test_autocast_computes_in_low_precision() -> None:
    model, x = net().float().eval(), batch().float()
    with subnetwork(model, 0.5):
        reference = model(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model(x)
    assert out.dtype == torch.bfloat16
    assert bool((out.float() - reference).norm() < 0.05 * reference.norm())


def test_a_model_that_takes_another_path_is_traced_again() -> None:
    class Switch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.aux, self.out = (
                nn.Linear(3, 8),
                nn.Linear(3, 8),
                nn.Linear(8, 5),
                nn.Linear(8, 2),
            )

        def forward(self, x: Tensor, both: bool) -> tuple[Tensor, ...]:
            y = self.a(x)
            if not both:
                return (self.out(y),)
            y = y + self.b(x).flip(1)  # whole from here on
            return self.out(y), self.aux(y)

    model, x = Switch().double(), batch(4, 3)
    with subnetwork(model, 0.5) as sub:
        model(x, False)
        assert sub.kept("a.weight") == (0, 1, 2, 3)
        for output, expected in zip(model(x, True), Switch.forward(model, x, True), strict=True):
            torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
        assert sub.kept("a.weight") is None


class _NoiseSettings(RegularizerSettings):
    name: ClassVar[str] = "noise"
    where: ClassVar[tuple[str, ...]] = ("bn1",)


class _Noise(FeatureRegularizer[_NoiseSettings]):
    Settings = _NoiseSettings

    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        mask = torch.rand(x.shape, generator=generator, dtype=x.dtype) < 0.7
        return x * mask * (mask.numel() / mask.sum())


def test_feature_regularizers_act_inside_sub_networks() -> None:
    model, x = net(), batch()
    model.drop.p = 0.0
    noise = _Noise()
    noise.attach(model)
    outputs = []
    for _ in range(2):
        noise._generator = torch.Generator().manual_seed(5)
        with subnetwork(model, 0.5):
            outputs.append(model(x))
    assert torch.equal(*outputs)
    noise.detach()
    mask = torch.rand(5, 8, 8, 8, generator=torch.Generator().manual_seed(5), dtype=x.dtype) < 0.7
    scale = mask.numel() / mask.sum()
    handle = model.bn1.register_forward_hook(
        lambda module, inputs, out: out * mask[:, : out.shape[1]] * scale
    )
    small = Net(4, 6).double()
    state = {
        name: model.state_dict()[name][tuple(slice(size) for size in target.shape)]
        for name, target in small.state_dict().items()
    }
    small.load_state_dict(state)
    small.drop.p = 0.0
    small.bn1.register_forward_hook(lambda module, inputs, out: out * mask[:, : out.shape[1]] * scale)
    torch.testing.assert_close(outputs[0], small(x), rtol=1e-12, atol=1e-12)
    handle.remove()


@pytest.mark.parametrize(
    "resize", [lambda x: F.avg_pool2d(x, 2), lambda x: F.interpolate(x, scale_factor=2.0)]
)
def test_space_that_was_merged_with_channels_changes_its_size(resize) -> None:
    class Patches(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.stem, self.mix = nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)
            self.fc = nn.Linear(channels, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            batch, channels, height, width = x.shape
            x = x.reshape(batch * channels * 2, height // 2, width).relu()
            x = resize(x.reshape(batch, channels, height, width))
            assert x.shape[-1] != width
            return self.fc(F.adaptive_avg_pool2d(self.mix(x), 1).flatten(1))

    model, small, x = Patches(10).double(), Patches(6).double(), batch(2, 3, 8, 8)
    small.load_state_dict(
        {
            name: tensor[tuple(slice(size) for size in small.state_dict()[name].shape)]
            for name, tensor in model.state_dict().items()
        }
    )
    with subnetwork(model, 0.6):
        torch.testing.assert_close(model(x), small(x), rtol=1e-12, atol=1e-12)
