"""What the probe of GSNR-guided dropout lends to the pass that trains: the same numbers, for less."""

import copy

import pytest
import torch
from torch import Tensor, nn

from regathlon_core import DropBlock, GSNRDrop, StochasticDepth
from regathlon_core.regularizer import Compose
from regathlon_core.rng import stream
from regathlon_core.testing import ToyImages


class Counting(nn.Module):
    """Counts the passes through a layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.passes = layer, 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.layer(x)


class Residual(nn.Module):
    """A branch beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.branch(x) + x)


class Net(nn.Module):
    """A stem with batch-norm, a residual block, and a head; the block is the first place."""

    def __init__(self, dropout: float = 0.0, momentum: float | None = 0.1) -> None:
        super().__init__()
        self.stem = Counting(
            nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6, momentum=momentum))
        )
        self.dropout = nn.Dropout(dropout)
        self.first = Residual(6)
        self.second = Counting(nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()))
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.stem(x))
        return self.fc(self.second(self.first(x)).mean((2, 3)))


PLACES = ("first", "second")


def step(model: nn.Module, regularizer, shared: bool = True) -> list[Tensor]:
    """Attach, make one step and return loss, gradients and buffers."""
    task = ToyImages()
    batch = task.batch("train", torch.arange(8))
    batch = batch.replace(
        inputs=torch.randn(8, 3, 6, 6, generator=stream(0, "x"), dtype=torch.float64),
        targets=torch.arange(8) % 4,
    )
    model.double().train()
    regularizer.attach(model)
    if not shared:
        regularizer._probe = lambda *a, lend, probe=regularizer._probe: probe(*a)
    generator = stream(0, "step")
    changed = regularizer.transform(model, batch, task, generator)
    (loss,) = regularizer.losses(model, changed, task, generator)
    loss.backward()
    regularizer.after_step(0.5)
    regularizer.detach()
    return [
        loss.detach(),
        *(parameter.grad for parameter in model.parameters()),
        *(buffer.clone() for buffer in model.buffers()),
    ]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_step_has_the_same_numbers_whether_it_is_lent_or_not(momentum) -> None:
    model = Net(momentum=momentum)
    found = {}
    for shared in (True, False):
        twin = copy.deepcopy(model)
        found[shared] = step(twin, GSNRDrop(p=0.3, block_size=2, where=PLACES), shared)
        # One pass to see which modules run first; the probe's pass; and the training pass unless it is lent.
        assert twin.stem.passes == 2
        assert twin.second.passes == (3 if shared else 2)
    for one, other in zip(found[True], found[False], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_the_search_for_the_prefix_is_made_once() -> None:
    model, task = Net(), ToyImages()
    model.train()
    regularizer = GSNRDrop(p=0.3, block_size=2, where=PLACES)
    regularizer.attach(model)
    for _ in range(3):
        batch = task.batch("train", torch.arange(8))
        batch = batch.replace(inputs=torch.randn(8, 3, 6, 6), targets=batch.targets % 4)
        for loss in regularizer.losses(
            model, regularizer.transform(model, batch, task, stream(0, "step")), task, stream(0, "step")
        ):
            loss.backward()
        regularizer.after_step(0.5)
    assert model.stem.passes == 1 + 3
    assert model.second.passes == 1 + 2 * 3
    regularizer.detach()
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize(
    "other",
    [DropBlock(p=0.3, block_size=2, where=("stem",)), StochasticDepth(p=0.5)],
    ids=lambda other: other.settings.name,
)
def test_nothing_is_lent_where_another_regularizer_acts_before_the_place(other) -> None:
    model = Net()
    step(model, Compose([other, GSNRDrop(p=0.3, block_size=2, where=PLACES)]))
    assert model.stem.passes == 3


def test_nothing_is_lent_past_native_dropout() -> None:
    model = Net(dropout=0.5)
    step(model, GSNRDrop(p=0.3, block_size=2, where=PLACES))
    assert model.stem.passes == 3


def test_a_pass_on_other_inputs_is_computed() -> None:
    model, task = Net(), ToyImages()
    model.train()
    regularizer = GSNRDrop(p=0.3, block_size=2, where=PLACES)
    regularizer.attach(model)
    batch = task.batch("train", torch.arange(8)).replace(inputs=torch.randn(8, 3, 6, 6))
    regularizer.transform(model, batch.replace(targets=batch.targets % 4), task, stream(0, "step"))
    count = int(model.stem.layer[1].num_batches_tracked)
    model(batch.inputs.clone())
    assert model.stem.passes == 3
    assert int(model.stem.layer[1].num_batches_tracked) == count + 1
    model(batch.inputs)  # and that one is lent
    assert model.stem.passes == 3
    assert int(model.stem.layer[1].num_batches_tracked) == count + 2
    regularizer.detach()
