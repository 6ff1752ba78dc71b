"""CutMix: boxes by loops, labels by counted pixels, the coin, and its company."""

import math
import random

import pytest
import torch

from regathlon_core import Budget, Compose, CutMix, DropBlock, Recipe, UserError, fit
from regathlon_core.functional import cutmix
from regathlon_core.ops.sampling import (
    sample_bernoulli,
    sample_beta,
    sample_permutation,
    sample_uniform,
)
from regathlon_core.regularizers.cutmix.functional import sample_cutmix
from regathlon_core.testing import ToyImages


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 13)])
def test_equals_loops(seed: int, height: int, width: int) -> None:
    x, targets = torch.randn(5, 2, height, width), torch.arange(5)
    before = x.clone()
    y, mixed = cutmix(x, targets, generator=seeded(seed))

    generator = seeded(seed)
    partner = sample_permutation(5, generator=generator).tolist()
    side = math.sqrt(1 - float(sample_beta(1.0, 1.0, generator=generator)))
    assert bool(sample_bernoulli((), 1.0, generator=generator))
    centre = sample_uniform((1, 2), generator=generator)[0]
    h, w = int(height * side), int(width * side)
    top, left = int(centre[0] * height) - h // 2, int(centre[1] * width) - w // 2
    for i in range(5):
        own = 0
        for row in range(height):
            for column in range(width):
                inside = top <= row < top + h and left <= column < left + w
                own += not inside
                assert torch.equal(y[i, :, row, column], x[partner[i] if inside else i, :, row, column])
        assert float(mixed.weight[i]) == pytest.approx(own / (height * width), abs=1e-6)
        assert int(mixed.targets[i]) == partner[i]
    assert torch.equal(x, before)


@pytest.mark.parametrize("spatial", [(50,), (31, 17), (7, 9, 8)])
def test_weight_counts_pixels(spatial: tuple[int, ...]) -> None:
    x = torch.arange(4.0).view(4, 1, *[1] * len(spatial)).expand(4, 3, *spatial)
    seen = set()
    for seed in range(30):
        y, mixed = cutmix(x, torch.arange(4), generator=seeded(seed))
        moved = mixed.targets != torch.arange(4)
        share = (y == x).double().flatten(1).mean(dim=1)
        torch.testing.assert_close(share[moved], mixed.weight[moved].double(), rtol=0, atol=1e-6)
        assert mixed.weight.dtype == torch.float32
        seen.add(float(mixed.weight[0]))
    assert len(seen) > 10


def test_law_of_the_boxes() -> None:
    """Mean and spread of the own share against an independent simulation of the paper's equations 1 and 2."""
    height, width, count = 40, 24, 1500
    generator = seeded(1)
    ours = torch.tensor(
        [
            1 - float(sample_cutmix((1, 1, height, width), generator=generator)[1].double().mean())
            for _ in range(count)
        ]
    )
    rng, theirs = random.Random(2), []
    for _ in range(count):
        side = math.sqrt(1 - rng.betavariate(1, 1))
        spans = []
        for extent in (height, width):
            length, centre = int(extent * side), rng.randrange(extent)
            start = centre - length // 2
            spans.append(min(extent, start + length) - max(0, start))
        theirs.append(1 - spans[0] * spans[1] / (height * width))
    reference = torch.tensor(theirs)
    spread = math.sqrt(float(ours.var() + reference.var()) / count)
    assert abs(float(ours.mean() - reference.mean())) <= 5 * spread
    squares = ours.square(), reference.square()
    spread = math.sqrt(float(squares[0].var() + squares[1].var()) / count)
    assert abs(float(squares[0].mean() - squares[1].mean())) <= 5 * spread


def test_probability_of_mixing() -> None:
    generator, p, count = seeded(3), 0.3, 1000
    mixes = sum(bool(sample_cutmix((2, 1, 32, 32), p=p, generator=generator)[1].any()) for _ in range(count))
    # A mixing box is empty where its side is below a pixel: with probability 1/32² of the kept share.
    rate = p * (1 - 1 / 32**2)
    assert abs(mixes / count - rate) <= 5 * math.sqrt(rate * (1 - rate) / count)


def test_a_batch_left_alone_has_the_plain_loss() -> None:
    task = ToyImages()
    batch = task.batch("train", torch.arange(8))
    model = task.model(0)
    for seed in range(50):
        changed = CutMix(p=0.2).transform(model, batch, task, seeded(seed))
        if torch.equal(changed.mixed.weight, torch.ones(8)):
            break
    assert torch.equal(changed.inputs, batch.inputs)
    torch.testing.assert_close(task.loss(model, changed), task.loss(model, batch))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dtype_and_batch_of_one(dtype: torch.dtype) -> None:
    x = torch.randn(1, 2, 5, 6).to(dtype)
    y, mixed = cutmix(x, torch.zeros(1, dtype=torch.int64))
    assert torch.equal(y, x)
    assert y.dtype == dtype
    assert mixed.weight.shape == (1,)


def test_extremes() -> None:
    x, targets = torch.randn(3, 1, 4, 4), torch.arange(3)
    y, mixed = cutmix(x, targets, p=0.0)
    assert y is x
    assert mixed is None
    for wrong in ({"p": 1.5}, {"alpha": 0.0}):
        with pytest.raises(UserError, match="alpha above 0"):
            cutmix(x, targets, **wrong)


def test_trains_together_with_dropblock() -> None:
    task = ToyImages()
    both = Compose([DropBlock(p=0.1, block_size=3), CutMix(p=0.5)])
    assert [part.settings.name for part in both.parts] == ["cutmix", "dropblock"]
    result = fit(task.model(seed=0), task, both, Recipe(lr=0.05, batch_size=16, budget=Budget(epochs=8)))
    losses = [record.train_loss for record in result.history]
    assert losses[-1] < losses[0]
    assert result.history[-1].test["accuracy"] > 0.5
