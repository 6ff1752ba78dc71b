"""Depth sub-networks: a residual network without some of its blocks."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core import UserError
from regathlon_core.subnetworks import ResidualBlock, residual_blocks, subnetwork, subnetwork_depth


class Block(nn.Module):
    """Post-activation, with a projection where the shape changes."""

    def __init__(self, i: int, o: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.down = (
            nn.Sequential(nn.Conv2d(i, o, 1, stride), nn.BatchNorm2d(o)) if (i, stride) != (o, 1) else None
        )

    def forward(self, x: Tensor) -> Tensor:
        identity = x.clone()
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        if self.down is not None:
            identity = self.down(x)
        y += identity
        return F.relu(y, inplace=True)


class PreBlock(nn.Module):
    """Pre-activation, identity only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.layer1 = nn.Sequential(Block(6, 6), Block(6, 6))
        self.layer2 = nn.Sequential(Block(6, 8, 2), PreBlock(8))
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer2(self.layer1(self.stem(x))).mean((2, 3)))


NAMES = ["layer1.0", "layer1.1", "layer2.0", "layer2.1"]


def net() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net().double()


def images() -> Tensor:
    return torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_finds_the_innermost_blocks_their_shortcuts_and_activations() -> None:
    model = net()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert residual_blocks(model, images()) == (
        ResidualBlock("layer1.0", None, True),
        ResidualBlock("layer1.1", None, True),
        ResidualBlock("layer2.0", "down", True),
        ResidualBlock("layer2.1", None, False),
    )
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("dropped", [[], ["layer1.0"], ["layer2.0", "layer2.1"], NAMES])
def test_equals_a_model_built_without_the_blocks(dropped: list[str]) -> None:
    model, x = net(), images()
    smaller = copy.deepcopy(model)
    for name in dropped:
        stage, at = name.split(".")
        block = model.get_submodule(name)
        down = getattr(block, "down", None)
        rest = [copy.deepcopy(down)] if down is not None else []
        rest += [nn.ReLU()] if isinstance(block, Block) else []
        smaller.get_submodule(stage)[int(at)] = nn.Sequential(*rest)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with subnetwork_depth(model, dict.fromkeys(dropped, False)) as sub:
        out = model(x)
    assert torch.equal(out, smaller(x))
    assert sub.kept == {name: name not in dropped for name in NAMES}
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    out.sum().backward()
    ran = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert "stem.weight" in ran
    assert not any(name.startswith(f"{block}.conv") for name in ran for block in dropped)


def test_draws_fall_linearly_from_one_to_the_probability_of_the_last_block() -> None:
    model = nn.Sequential(*(PreBlock(2) for _ in range(5))).eval()
    generator, draws, x = torch.Generator().manual_seed(0), 1000, torch.randn(1, 2, 2, 2)
    counts = torch.zeros(5)
    with torch.no_grad(), subnetwork_depth(model, 0.6, generator=generator) as sub:
        for _ in range(draws):
            model(x)
            counts += torch.tensor([float(kept) for kept in sub.kept.values()])
    for count, probability in zip(counts.tolist(), [1.0, 0.9, 0.8, 0.7, 0.6], strict=True):
        assert abs(count - draws * probability) <= 5 * math.sqrt(draws * probability * (1 - probability))


def test_works_together_with_widths_in_either_order() -> None:
    model, x = net(), images()
    keep = {"layer1.0": False, "layer2.1": False}
    with subnetwork(model, 0.5), subnetwork_depth(model, keep):
        first = model(x)
    with subnetwork_depth(model, keep), subnetwork(model, 0.5):
        second = model(x)
    assert torch.equal(first, second)
    smaller = copy.deepcopy(model)
    smaller.layer1[0], smaller.layer2[1] = nn.ReLU(), nn.Identity()
    with subnetwork(smaller, 0.5):
        torch.testing.assert_close(first, smaller(x), rtol=1e-12, atol=1e-12)


def test_a_pass_draws_the_same_whether_or_not_it_is_the_first() -> None:
    results = []
    model = net()
    for _ in range(2):
        generator = torch.Generator().manual_seed(0)
        with subnetwork_depth(model, 0.5, generator=generator) as sub, subnetwork(model, 0.5):
            model(images())
        results.append((sub.kept, float(torch.rand((), generator=generator))))
    assert results[0] == results[1]


def test_everything_is_restored_after_an_exception() -> None:
    model, x = net(), images()
    residual_blocks(model, x)
    attributes = [set(vars(module)) for module in model.modules()]
    with (
        pytest.raises(RuntimeError, match="channels"),
        subnetwork_depth(model, {"layer1.0": False}),
    ):
        model(x[:, :2])
    assert attributes == [set(vars(module)) for module in model.modules()]
    assert model.layer1[0].bn1.track_running_stats


def test_bad_input_is_an_error() -> None:
    model = net()
    with (
        pytest.raises(UserError, match=r"no residual block 'layer1.3'\. Did you mean"),
        subnetwork_depth(model, {"layer1.3": True}),
    ):
        model(images())
    with pytest.raises(UserError, match="generator"), subnetwork_depth(model, 0.8):
        pass
    with (
        pytest.raises(UserError, match=r"\[0, 1\]"),
        subnetwork_depth(model, 1.5, generator=torch.Generator()),
    ):
        pass
    plain = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    with pytest.raises(UserError, match="Sequential has no residual blocks"):
        residual_blocks(plain, torch.randn(2, 3))


def test_the_input_is_the_shortcut_whatever_else_is_added() -> None:
    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.first(x) + self.second(x)

    class Offset(Block):
        def forward(self, x: Tensor) -> Tensor:
            y = self.bn1(self.conv1(x)) + self.conv2.weight[:, 0, 0, 0, None, None]
            return F.relu(y + self.down(x))

    found = residual_blocks(nn.Sequential(Parallel(), Parallel()), torch.randn(2, 3))
    assert found == (ResidualBlock("0"), ResidualBlock("1"))
    (block,) = residual_blocks(nn.Sequential(Offset(3, 4)), torch.randn(2, 3, 5, 5))
    assert block == ResidualBlock("0", "down", activated=True)
