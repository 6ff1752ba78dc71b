"""DropBlock: the paper's algorithm by loops, torchvision's semantics, its schedule, and attaching it."""

import math

import pytest
import torch
from torch import Tensor, nn

from regathlon_core import Budget, DropBlock, Recipe, UserError, fit
from regathlon_core.functional import drop_block
from regathlon_core.ops.block_mask import sample_seeds
from regathlon_core.regularizers.dropblock.functional import sample_drop_block
from regathlon_core.testing import ToyImages


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drop_block_by_loops(x: Tensor, seeds: Tensor, side_h: int, side_w: int) -> Tensor:
    """Algorithm 1 of the paper, from given seeds (corners), with a mask of numbers."""
    batch, channels, height, width = x.shape
    mask = torch.ones_like(x)
    for b in range(batch):
        for c in range(channels):
            for i in range(height - side_h + 1):
                for j in range(width - side_w + 1):
                    if seeds[b, c, i, j]:
                        mask[b, c, i : i + side_h, j : j + side_w] = 0
    return x * mask * mask.numel() / mask.sum()


@pytest.mark.parametrize(
    ("height", "width", "block_size"), [(8, 8, 3), (8, 8, 4), (5, 9, 2), (4, 11, 6), (6, 3, 5)]
)
def test_equals_the_algorithm_by_loops(height: int, width: int, block_size: int) -> None:
    x = torch.randn(6, 3, height, width, dtype=torch.float64)
    sides = (min(block_size, height), min(block_size, width))
    seeds = sample_seeds((6, 3), (height, width), sides, 0.2, generator=seeded(1))
    expected = drop_block_by_loops(x, seeds, *sides)
    assert bool((expected == 0).any())
    torch.testing.assert_close(
        drop_block(x, 0.2, block_size, generator=seeded(1)), expected, rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("spatial", [(17,), (9, 12), (5, 6, 7)])
@pytest.mark.parametrize("per_channel", [True, False])
def test_gradient_is_mask_times_scale(spatial: tuple[int, ...], per_channel: bool) -> None:
    x = torch.randn(3, 4, *spatial, requires_grad=True)
    y = drop_block(x, 0.3, 4, per_channel=per_channel, generator=seeded(2))
    dropped = sample_drop_block(x.shape, 0.3, 4, per_channel=per_channel, generator=seeded(2))
    assert dropped.shape == (3, 4 if per_channel else 1, *spatial)
    factor = (~dropped).float().expand_as(x)
    factor = factor * factor.numel() / factor.sum()
    torch.testing.assert_close(y, x * factor)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], factor)
    assert float(factor.mean()) == pytest.approx(1, abs=1e-6)


def test_channels_have_blocks_of_their_own_unless_shared() -> None:
    own = sample_drop_block((40, 6, 8, 8), 0.2, 3, generator=seeded(3))
    assert not torch.equal(own, own[:, :1].expand_as(own))
    shared = drop_block(torch.ones(40, 6, 8, 8), 0.2, 3, per_channel=False, generator=seeded(3))
    assert torch.equal(shared, shared[:, :1].expand_as(shared))


@pytest.mark.parametrize(("block_size", "side"), [(3, 14), (7, 14), (5, 9)])
def test_drops_as_much_as_torchvision(block_size: int, side: int) -> None:
    ops = pytest.importorskip("torchvision.ops", reason="torchvision is no dependency of core")
    x = torch.ones(4000, 1, side, side)
    shares = []
    for drop in (
        lambda: drop_block(x, 0.1, block_size, generator=seeded(4)),
        lambda: ops.drop_block2d(x, 0.1, block_size, training=True),
    ):
        with torch.random.fork_rng():
            torch.manual_seed(4)
            shares.append((drop() == 0).double().flatten(1).mean(dim=1))
    ours, theirs = shares
    spread = math.sqrt(float(ours.var() + theirs.var()) / len(x))
    assert abs(float(ours.mean() - theirs.mean())) <= 5 * spread


def test_everything_dropped_is_zero() -> None:
    x = torch.full((2, 3, 4, 4), float("inf"), requires_grad=True)
    y = drop_block(x, 1.0, 4)
    y.sum().backward()
    assert not y.any()
    assert not x.grad.any()


def test_nothing_dropped_is_the_same_tensor() -> None:
    x = torch.ones(2, 3, 4, 4)
    assert drop_block(x, 0.0, 3) is x
    assert drop_block(x, torch.tensor(0.0), 3) is x
    assert DropBlock(p=0.0)(x) is x
    assert DropBlock(p=0.5).eval()(x) is x


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_dtype_and_mask(dtype: torch.dtype) -> None:
    x = torch.randn(64, 64, 8, 8)  # more units than half precision can count
    y = drop_block(x.to(dtype), 0.2, 3, generator=seeded(5))
    reference = drop_block(x.to(dtype).double(), 0.2, 3, generator=seeded(5))
    assert y.dtype == dtype
    assert torch.equal(y == 0, reference == 0)
    torch.testing.assert_close(y.double(), reference, rtol=2 * torch.finfo(dtype).eps, atol=1e-7)


def test_generator_decides() -> None:
    x = torch.ones(1, 5, 9, 9)
    assert torch.equal(drop_block(x, 0.3, 2, generator=seeded(6)), drop_block(x, 0.3, 2, generator=seeded(6)))
    assert not torch.equal(
        drop_block(x, 0.3, 2, generator=seeded(6)), drop_block(x, 0.3, 2, generator=seeded(7))
    )


def test_the_wrong_shape_is_refused() -> None:
    with pytest.raises(UserError, match="1, 2 or 3 spatial"):
        DropBlock()(torch.ones(4, 8))


def test_second_derivatives_through_a_layer() -> None:
    """A virtual step differentiates gradients that went through the layer (Meta-GSNR, MAML)."""
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.Softplus(), DropBlock(p=0.2, block_size=2), nn.Conv2d(3, 1, 3)
    )
    parameters = list(model.parameters())
    loss = model(torch.randn(4, 2, 9, 9)).pow(2).mean()
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    second = torch.autograd.grad(sum(g.pow(2).sum() for g in gradients), parameters)
    assert all(bool(g.isfinite().all()) and bool(g.any()) for g in second[:3])
    torch.func.grad(lambda x: drop_block(x, 0.2, 3).sum())(torch.ones(2, 2, 5, 5))


@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_schedule(schedule: str) -> None:
    task = ToyImages()
    model = task.model(seed=0)
    regularizer = DropBlock(p=0.4, block_size=1, schedule=schedule)
    x = torch.ones(100, 100, 5, 5)
    regularizer.attach(model, task)
    for progress in (0.0, 0.25, 1.0):
        if progress:
            regularizer.after_step(progress)
        p = 0.4 * (progress if schedule == "linear" else 1.0)
        share = float((regularizer(x) == 0).double().mean())
        assert abs(share - p) <= 5 * math.sqrt(p * (1 - p) / x.numel())
    resumed = DropBlock(p=0.4, block_size=1, schedule=schedule)
    resumed.load_state_dict(regularizer.state_dict())
    assert float(resumed.strength) == float(regularizer.strength) == 1.0
    regularizer.detach()


def test_a_layer_of_ones_own_has_its_full_rate() -> None:
    share = float((DropBlock(p=0.3, block_size=1)(torch.ones(100, 100, 5, 5)) == 0).double().mean())
    assert abs(share - 0.3) <= 5 * math.sqrt(0.3 * 0.7 / 250000)


def test_where_it_acts() -> None:
    task = ToyImages()
    model = task.model(seed=0).train()
    batch = task.batch("train", torch.arange(16))
    regularizer = DropBlock(p=0.3, block_size=2, schedule="constant", where=("block2",))
    regularizer.attach(model, task)
    seen = {}
    for name in ("block1", "block2"):
        model.get_submodule(name).register_forward_hook(lambda m, i, out, name=name: seen.update({name: out}))
    regularizer.transform(model, batch, task, seeded(8))
    model(batch.inputs)
    assert torch.equal(seen["block1"], model.block1(batch.inputs))
    assert not torch.equal(seen["block2"], nn.Sequential.forward(model.block2, seen["block1"]))
    regularizer.detach()
    with pytest.raises(UserError, match="block2"):
        DropBlock(where=("block22",)).attach(model, task)


def test_trains_with_the_engine() -> None:
    task = ToyImages()
    result = fit(
        task.model(seed=0), task, DropBlock(p=0.1, block_size=3), Recipe(lr=0.05, budget=Budget(epochs=6))
    )
    losses = [record.train_loss for record in result.history]
    assert losses[-1] < losses[0]
