"""Methods on residual branches: where they act, how often, how strongly, and what they leave alone."""

import copy
import importlib.resources
import math
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core import (
    Compose,
    DropBlock,
    DropPath,
    DropPathSettings,
    GradAugSettings,
    RandDepth,
    RandDepthSettings,
    RegularizerSettings,
    StochasticDepth,
    StochasticDepthSettings,
    UserError,
)
from regathlon_core.functional import drop_path, stochastic_depth
from regathlon_core.passes import PassRole, run_as
from regathlon_core.rng import stream
from regathlon_core.subnetworks import residual_blocks, residual_branches, subnetwork_depth
from regathlon_core.testing import ToyImages, ToyResidual, ToyTokens, conformance_checks

RESIDUAL = ToyResidual().settings
TASKS = [RESIDUAL, ToyTokens().settings]
CASES: list[Any] = [
    StochasticDepthSettings(),
    DropPathSettings(p=0.4),
    DropPathSettings(p=0.4, decay="uniform"),
    RandDepthSettings(n=2, p=0.6),
    [RandDepthSettings(n=1, p=0.6), DropPathSettings(p=0.3)],
    [GradAugSettings(n=1), StochasticDepthSettings(p=0.3)],
]


@pytest.mark.parametrize("check", [c for case in CASES for c in conformance_checks(case, TASKS)], ids=str)
def test_conforms(check: Any) -> None:
    check()


# ---- the mechanism -----------------------------------------------------------------------------------------


class InPlace(nn.Module):
    """Adds to its branch, in place, and uses the branch afterwards."""

    def __init__(self, i: int, o: int, stride: int = 1) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o))
        self.down = nn.Conv2d(i, o, 1, stride) if (i, stride) != (o, 1) else None

    def terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x if self.down is None else self.down(x)), self.branch(x)

    def forward(self, x: Tensor) -> Tensor:
        shortcut, y = self.terms(x)
        y.add_(shortcut.clone())
        return F.relu(y)


class OutOfPlace(InPlace):
    """The same, as a formula, with a third term that is no branch: it has another shape."""

    def __init__(self, i: int, o: int, stride: int = 1) -> None:
        super().__init__(i, o, stride)
        self.offset = nn.Parameter(torch.randn(1, o, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        shortcut, y = self.terms(x)
        return F.relu((shortcut + self.offset) + y)


class Transformer(nn.Module):
    """Two branches in one block."""

    def __init__(self, i: int, o: int, stride: int = 1) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(i, i, 1), nn.Conv2d(i, i, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.add(x, self.first(x))
        y = self.second(x)
        y += x
        return y


def reference(block: nn.Module, x: Tensor, factor: float) -> Tensor:
    """The block written again, with its branches weighted."""
    if isinstance(block, Transformer):
        x = x + factor * block.first(x)
        return x + factor * block.second(x)
    shortcut, y = block.terms(x)  # type: ignore[operator]
    offset = block.offset if isinstance(block, OutOfPlace) else 0.0
    return F.relu(shortcut + offset + factor * y)


@pytest.mark.parametrize("kind", [InPlace, OutOfPlace, Transformer])
def test_branches_are_weighted_and_nothing_else(kind: type[nn.Module]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        widths = (4, 4) if kind is Transformer else (4, 6)
        model = nn.Sequential(kind(4, 4), kind(widths[0], widths[1], 2)).double()
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64, generator=stream(0, "x"))
    wanted_model = copy.deepcopy(model)
    wanted = reference(wanted_model[1], reference(wanted_model[0], x, 0.5), 1.0)
    depths = []

    def act(branch: Tensor, depth: float) -> Tensor:
        depths.append(depth)
        return branch * depth if depth < 1 else branch

    with residual_branches(model, act):
        out = model(x)
    assert depths == ([0.5, 0.5, 1, 1] if kind is Transformer else [0.5, 1])
    torch.testing.assert_close(out, wanted, atol=1e-12, rtol=0)
    out.square().sum().backward()
    wanted.square().sum().backward()
    for (name, parameter), twin in zip(model.named_parameters(), wanted_model.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, twin.grad, atol=1e-10, rtol=0, msg=name)
    for (name, buffer), twin in zip(model.named_buffers(), wanted_model.buffers(), strict=True):
        torch.testing.assert_close(buffer, twin, atol=1e-12, rtol=0, msg=name)  # counted once
    assert "forward" not in vars(model)
    assert not any("forward" in vars(module) or module._forward_hooks for module in model.modules())


def test_eval_probes_and_attributions_are_plain() -> None:
    task = ToyResidual()
    model, x = task.model(seed=0), task.batch("train", torch.arange(4)).inputs

    def refuse(branch: Tensor, depth: float) -> Tensor:
        raise AssertionError

    plain = copy.deepcopy(model)
    with residual_branches(model, refuse):
        assert torch.equal(model.eval()(x), plain.eval()(x))
        model.train()
        for role in (PassRole.PROBE, PassRole.ATTRIBUTION):
            with run_as(model, role):
                model(x)
        with pytest.raises(AssertionError):
            model(x)


def test_attached_it_does_what_the_layer_does() -> None:
    task = ToyResidual()
    batch = task.batch("train", torch.arange(6))
    model = task.model(seed=0).train()
    hand = copy.deepcopy(model)
    regularizer = DropPath(p=0.6)
    regularizer.attach(model, task)
    for seed in range(3):  # the first pass, in which the blocks are found, draws no other numbers
        regularizer.transform(model, batch, task, stream(seed, "draws"))
        generator = stream(seed, "draws")
        x = hand.stem(batch.inputs)
        for block, p in ((hand.block1, 0.3), (hand.block2, 0.6)):
            branch = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
            x = F.relu(block.projection(x) + drop_path(branch, p, generator=generator))
        assert torch.equal(model(batch.inputs), hand.head(x.amax((2, 3))))
    regularizer.detach()


def test_a_feature_layer_inside_draws_the_same_in_the_first_pass() -> None:
    task = ToyResidual()
    batch = task.batch("train", torch.arange(6))
    both = Compose([StochasticDepth(p=0.5), DropBlock(p=0.3, block_size=2, schedule="constant")])
    outputs = []
    model = task.model(seed=0).train()
    both.attach(model, task)
    for _ in range(2):
        both.transform(model, batch, task, stream(0, "both"))
        outputs.append(model(batch.inputs))
    both.detach()
    assert torch.equal(*outputs)


def test_a_model_without_residual_blocks_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    regularizer = StochasticDepth(p=0.5)
    regularizer.attach(model)
    with pytest.raises(UserError, match="Sequential has no residual blocks"):
        model(torch.randn(2, 3))
    with pytest.raises(UserError, match="attached to a model already"):
        regularizer.attach(model)
    regularizer.detach()
    assert model(torch.randn(2, 3)).shape == (2, 3)


def test_tasks_without_residual_models_are_refused_when_planning() -> None:
    refusal = StochasticDepthSettings().refusal(ToyImages().settings)
    assert refusal is not None
    assert "residual blocks" in refusal


# ---- the methods -------------------------------------------------------------------------------------------


def test_stochastic_depth_drops_the_whole_batch_at_its_rate() -> None:
    generator, p, draws = stream(0, "whole"), 0.3, 2000
    branch = torch.randn(3, 2, generator=generator)
    dropped = 0
    for _ in range(draws):
        out = stochastic_depth(branch, p, generator=generator)
        if bool((out == 0).all()):
            dropped += 1
        else:
            torch.testing.assert_close(out, branch / (1 - p))
    assert abs(dropped - draws * p) <= 5 * math.sqrt(draws * p * (1 - p))
    assert stochastic_depth(branch, 0.0) is branch


@pytest.mark.parametrize("shape", [(5000,), (5000, 2), (5000, 2, 1, 3)])
def test_drop_path_drops_samples_at_its_rate_and_keeps_the_mean(shape: tuple[int, ...]) -> None:
    p = 0.25
    out = drop_path(torch.ones(shape), p, generator=stream(0, "rows")).flatten(1) if len(shape) > 1 else None
    if out is None:
        out = drop_path(torch.ones(shape), p, generator=stream(0, "rows"))[:, None]
    assert bool((out == out[:, :1]).all())
    kept = out[:, 0] != 0
    torch.testing.assert_close(out[kept], torch.full_like(out[kept], 1 / (1 - p)))
    assert abs(float(kept.double().mean()) - (1 - p)) <= 5 * math.sqrt(p * (1 - p) / shape[0])


def test_a_dropped_branch_weighs_nothing_whatever_it_was() -> None:
    branch = torch.full((4, 3), float("nan"))
    assert not drop_path(branch, 1.0).any()
    assert not stochastic_depth(branch, 1.0).any()


@pytest.mark.parametrize(("decay", "wanted"), [("linear", [0.2, 0.4, 0.6, 0.8]), ("uniform", [0.8] * 4)])
def test_rates_by_depth(decay: Any, wanted: list[float]) -> None:
    regularizer = StochasticDepth(p=0.8, decay=decay)
    assert [regularizer.rate(block / 4) for block in range(1, 5)] == pytest.approx(wanted)


def test_without_other_blocks_the_network_is_shallower() -> None:
    # Nearly certain drops at the last block: what is left is its shortcut.
    task = ToyResidual()
    model = task.model(seed=0).train()
    batch = task.batch("train", torch.arange(6))
    regularizer = StochasticDepth(p=1 - 1e-12, decay="uniform")
    regularizer.attach(model, task)
    regularizer.transform(model, batch, task, stream(0, "all"))
    out = model(batch.inputs)
    regularizer.detach()
    x = F.relu(model.stem(batch.inputs))
    x = F.relu(model.block2.projection(x))
    assert torch.equal(out, model.head(x.amax((2, 3))))
    assert [block.name for block in residual_blocks(model, batch.inputs)] == ["block1", "block2"]


def test_rand_depth_is_the_sum_of_separate_trainings() -> None:
    task = ToyResidual()
    model = task.model(seed=0).double().train()
    batch = task.batch("train", torch.arange(8))
    batch = batch.replace(inputs=batch.inputs.double())
    separate, n, p = copy.deepcopy(model), 6, 0.5
    for loss in RandDepth(n=n, p=p).losses(model, batch, task, stream(0, "depth")):
        loss.backward()

    # The same draws again; each term alone on a copy of its own, whose blocks are left out by hand.
    generator = stream(0, "depth")
    views = task.views(batch, generator)
    net = copy.deepcopy(separate)
    logits = net(batch.inputs)
    F.cross_entropy(logits, batch.targets).backward()
    total = {name: parameter.grad.clone() for name, parameter in net.named_parameters()}
    skipped = []
    for _ in range(n):
        view = next(views)
        net = copy.deepcopy(separate)
        skipped.append(not torch.rand(2, generator=generator)[1] < 1 - p)
        x = net.block1(net.stem(view.batch.inputs))
        x = F.relu(net.block2.projection(x)) if skipped[-1] else net.block2(x)
        log_p = net.head(x.amax((2, 3))).log_softmax(1)
        F.kl_div(log_p, logits.detach().softmax(1), reduction="batchmean").backward()
        for name, parameter in net.named_parameters():
            if parameter.grad is not None:
                total[name] += parameter.grad
    assert set(skipped) == {True, False}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, total[name], atol=1e-12, rtol=0, msg=name)
    plain = copy.deepcopy(separate)
    plain(batch.inputs)
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), plain.buffers(), strict=True))


def test_rand_depth_without_drops_teaches_the_full_network() -> None:
    task = ToyResidual()
    model = task.model(seed=0).train()
    batch = task.batch("train", torch.arange(8))
    with subnetwork_depth(model, 1.0, generator=stream(0, "none")) as sub:
        out = model(batch.inputs)
    assert all(sub.kept.values())
    assert torch.equal(out, model(batch.inputs))


@pytest.mark.parametrize("settings", [StochasticDepthSettings, DropPathSettings])
@pytest.mark.parametrize(("field", "value"), [("p", 1.0), ("p", -0.1), ("decay", "linaer")])
def test_bad_settings(settings: type[RegularizerSettings], field: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"{settings.name}.*{field}"):
        settings(**{field: value})


@pytest.mark.parametrize("name", ["stochastic_depth", "drop_path"])
def test_card(name: str) -> None:
    text = (importlib.resources.files(f"regathlon_core.regularizers.{name}") / "card.md").read_text("utf-8")
    names: dict[str, Any] = {"__name__": "card"}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, f"{name}/card.md", "exec"), names)
    assert names["plain"][0].drop.settings.p == 0
