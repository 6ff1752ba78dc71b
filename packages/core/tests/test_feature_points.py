"""Places to act at: inputs, shortcuts, named sets of them, and rates that differ between parts of a model."""

import copy

import pytest
import torch
from torch import Tensor, nn

from regathlon_core import DropBlock, FeaturePoint, UserError
from regathlon_core.errors import NoEffectWarning
from regathlon_core.features import hook_point, select_points


class Block(nn.Module):
    """A residual block written as torchvision's are: one ReLU in two places, in-place operations."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.conv2(self.relu(self.conv1(x)))
        out += identity
        return self.relu(out)


POINTS = [
    FeaturePoint("0", 3, group="first"),
    FeaturePoint("0.conv2", 3, side="input", name="0/relu", group="first", placements=("inside",)),
    FeaturePoint("1", 3, side="skip", main="1.conv1", name="1/skip", group="second", placements=("inside",)),
    FeaturePoint("1.conv2", 3, name="1/main", group="second", placements=("inside",)),
]


@pytest.fixture
def model() -> nn.Sequential:
    return nn.Sequential(Block(), Block())


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def test_every_side_changes_what_it_says_and_nothing_else(model: nn.Sequential, x: Tensor) -> None:
    def twice(module: nn.Module, inputs: object, features: Tensor) -> Tensor:
        return 2 * features

    def by_hand(block: Block, x: Tensor, name: str) -> Tensor:
        shortcut = 2 * x if name == "1/skip" else x
        inner = block.conv1(x).relu()
        out = block.conv2(2 * inner if name == "0/relu" else inner)
        out = 2 * out if name == "1/main" else out
        return (out + shortcut).relu()

    plain = copy.deepcopy(model)
    for point in POINTS[1:]:
        block = int(point.module[0])
        handles = hook_point(model, point, twice)
        with torch.no_grad():
            assert torch.equal(model[block](x), by_hand(plain[block], x, point.name)), point.name
            for handle in handles:
                handle.remove()
            assert torch.equal(model[block](x), by_hand(plain[block], x, ""))


def test_hooks_that_only_look_change_nothing(model: nn.Sequential, x: Tensor) -> None:
    seen: dict[str, Tensor] = {}
    plain = model(x)
    for point in POINTS:
        hook_point(
            model, point, lambda module, inputs, features, name=point.name: seen.update({name: features})
        )
    assert torch.equal(model(x), plain)
    assert seen["1/skip"] is seen["0"]


def test_stars_stop_at_slashes_and_placements_name_sets() -> None:
    def names(*where: str) -> list[str]:
        return [point.name for point in select_points(POINTS, where)]

    assert names("*") == ["0"]
    assert names("*/*") == names("inside") == ["0/relu", "1/skip", "1/main"]
    assert names("1/*", "0") == ["1/skip", "1/main", "0"]
    with pytest.raises(UserError, match=r"no feature point 'insid'\. Did you mean 'inside'"):
        names("insid")


def test_gradients_through_a_shortcut_are_those_of_the_two_branches(model: nn.Sequential, x: Tensor) -> None:
    model = model.double()
    point = POINTS[2]
    hook_point(model, point, lambda module, inputs, features: 3 * features)
    x = x.double().requires_grad_()
    block = model[1]
    (found,) = torch.autograd.grad(block(x).square().sum(), x)
    plain = copy.deepcopy(block)
    for module in plain.modules():
        module._forward_pre_hooks.clear()
    out = (plain.conv2(plain.conv1(x).relu()) + 3 * x).relu()
    (wanted,) = torch.autograd.grad(out.square().sum(), x)
    torch.testing.assert_close(found, wanted)


def test_rates_differ_between_groups(model: nn.Sequential, x: Tensor) -> None:
    regularizer = DropBlock(
        p=0.8, block_size=1, schedule="constant", where=("inside",), group_rates=(0.0, 1.0)
    )
    regularizer.attach(model.train(), points=POINTS)
    assert [regularizer.rate(point.name) for point in POINTS[1:]] == [0.0, 1.0, 1.0]
    seen: list[Tensor] = []
    model[0].conv2.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model[1].conv2.register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(x)
    relu, main = seen
    assert float((relu == model[0].conv1(x).relu()).float().mean()) == 1  # nothing dropped
    assert float((main == 0).float().mean()) > 0.5


def test_as_many_rates_as_groups(model: nn.Sequential) -> None:
    for rates in ((0.5,), (0.5, 1.0, 1.0)):
        with pytest.raises(UserError, match=r"one rate for each of the groups it acts in \(first, second\)"):
            DropBlock(where=("inside",), group_rates=rates).attach(model, points=POINTS)
    with pytest.raises(UserError, match="group_rates"):
        DropBlock(group_rates=(2.0,))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_in_code_of_ones_own_a_place_that_there_is_not_is_warned_of(model: nn.Sequential, x: Tensor) -> None:
    plain = copy.deepcopy(model).train()
    regularizer = DropBlock(p=0.5, where=("layer1",))
    with pytest.warns(NoEffectWarning, match="no feature point 'layer1'.*no effect"):
        regularizer.attach(model.train())
    assert torch.equal(model(x), plain(x))
    with pytest.warns(NoEffectWarning, match="layer1"):
        DropBlock(where=("layer1", "inside")).attach(model, points=POINTS)
