"""RelDrop: where it occludes, how often, and what it explains."""

import math

import pytest
import torch
import torch.nn.functional as F

from regathlon_core import RelDrop, UserError
from regathlon_core.attribution import lrp
from regathlon_core.regularizers.reldrop.functional import (
    normalized_relevance,
    sample_relevant_blocks,
    sample_relevant_positions,
)
from regathlon_core.rng import stream
from regathlon_core.testing import ToyImages, ToyPoints


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("beta", [0.15, 0.5])
def test_rate_of_a_position(alpha: float, beta: float) -> None:
    levels = torch.tensor([0.0, 0.5, 0.8, 1.0])
    draws = 20000
    dropped = sample_relevant_positions(levels.expand(draws, 4), alpha, beta, generator=stream(0, "rate"))
    for level, rate in zip(levels.tolist(), dropped.double().mean(0).tolist(), strict=True):
        if alpha == 0:
            wanted = float(level >= 1 - beta)
        else:
            wanted = min(max((alpha + (1 - alpha) * level - (1 - beta)) / alpha, 0.0), 1.0)
        assert rate == pytest.approx(wanted, abs=5 * math.sqrt(wanted * (1 - wanted) / draws) + 1e-12)


def test_relevance_is_scaled_per_sample_and_per_graph() -> None:
    relevance = torch.randn(6, 5, 4, generator=stream(0, "r"), dtype=torch.float64) * 3 - 1
    scaled = normalized_relevance(relevance)
    for sample, of in zip(relevance, scaled, strict=True):
        torch.testing.assert_close(of, (sample - sample.min()) / (sample.max() - sample.min()))
    group = torch.tensor([0, 0, 0, 1, 2, 2])
    values = torch.tensor([1.0, 2.0, 5.0, 7.0, -1.0, 3.0])
    assert normalized_relevance(values, group).tolist() == [0, 0.25, 1, 0, 0, 1]
    assert bool((normalized_relevance(torch.full((2, 3), 4.0)) == 0).all())


@pytest.mark.parametrize("size", [(9, 9), (12, 5), (20,), (4, 5, 6)])
def test_a_block_covers_the_most_relevant_position(size: tuple[int, ...]) -> None:
    relevance = torch.randn(300, *size, generator=stream(0, "r"))
    where = sample_relevant_blocks(relevance, generator=stream(0, "where"))
    best = relevance.flatten(1).argmax(1)
    drawn = where.flatten(1).any(1)
    assert bool(where.flatten(1)[drawn].gather(1, best[drawn, None]).all())
    assert float(drawn.float().mean()) > 0.95
    share = where.flatten(1).double().mean(1)
    slack = 2.0 / min(size)  # sides are rounded
    assert float(share.max()) <= 0.4 + slack


def test_a_block_is_the_clipped_box_around_its_centre() -> None:
    relevance = torch.zeros(500, 11, 13)
    relevance[:, 2, 9] = 1
    for mask in sample_relevant_blocks(relevance, generator=stream(0, "box")):
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        assert bool(mask[top:bottom, left:right].all())
        assert int(mask.sum()) == (bottom - top) * (right - left)
        if top > 0 and bottom < 11:
            assert top == 2 - (bottom - top) // 2
        if left > 0 and right < 13:
            assert left == 9 - (right - left) // 2


def test_several_centres_and_random_ones() -> None:
    n = 4000
    relevance = torch.zeros(n, 15, 15)
    relevance[:, 3, 3], relevance[:, 11, 11] = 2.0, 1.0
    tiny = {"area": (0.005, 0.006), "aspect": (0.9, 1.1)}  # a single pixel
    two = sample_relevant_blocks(relevance, centers=2, generator=stream(0, "c"), **tiny)
    first, second = two[:, 3, 3], two[:, 11, 11]
    assert bool((first ^ second).all())
    assert float(first.double().mean()) == pytest.approx(0.5, abs=5 * math.sqrt(0.25 / n))
    anywhere = sample_relevant_blocks(relevance, alpha=1.0, generator=stream(0, "c"), **tiny)
    assert bool((anywhere.flatten(1).sum(1) == 1).all())
    counts = anywhere.double().sum(0)
    expected = n / 225
    assert float((counts - expected).abs().max()) < 6 * math.sqrt(expected)


def test_it_explains_the_true_class_and_nothing_else_changes() -> None:
    task = ToyImages()
    model = task.model(seed=0).train()
    batch = task.batch("train", torch.arange(12))
    regularizer = RelDrop(p=1.0)
    out = regularizer.transform(model, batch, task, stream(0, "reldrop"))
    relevance = lrp(model, batch.inputs, batch.targets).sum(1)
    where = sample_relevant_blocks(relevance, generator=stream(0, "reldrop"))
    assert torch.equal(out.inputs, batch.inputs.masked_fill(where[:, None], 0.0))
    other = batch.replace(targets=(batch.targets + 1) % 3)
    assert not torch.equal(regularizer.transform(model, other, task, stream(0, "reldrop")).inputs, out.inputs)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(module.training for module in model.modules())

    loss = next(iter(regularizer.losses(model, out, task, stream(0, "reldrop"))))
    torch.testing.assert_close(loss, F.cross_entropy(task.model(seed=0).train()(out.inputs), batch.targets))


def test_share_of_occluded_samples() -> None:
    task = ToyImages()
    model = task.model(seed=0)
    batch = task.batch("train", torch.arange(96))
    generator = stream(0, "coin")
    rounds, changed = 12, 0
    for _ in range(rounds):
        out = RelDrop(p=0.3).transform(model, batch, task, generator)
        changed += int((out.inputs != batch.inputs).flatten(1).any(1).sum())
    n = rounds * 96
    assert changed / n == pytest.approx(0.3, abs=5 * math.sqrt(0.3 * 0.7 / n))


def test_points_go_to_the_origin_whole() -> None:
    task = ToyPoints()
    model = task.model(seed=0)
    batch = task.batch("train", torch.arange(8))
    out = RelDrop(alpha=0.2, beta=0.6).transform(model, batch, task, stream(0, "points")).inputs
    moved = (out != batch.inputs).any(dim=1)
    assert bool(moved.any())
    assert bool((out.transpose(1, 2)[moved] == 0).all())
    assert torch.equal(out.transpose(1, 2)[~moved], batch.inputs.transpose(1, 2)[~moved])


def test_gradient_attribution_and_unknown_names() -> None:
    task = ToyImages()
    batch = task.batch("train", torch.arange(1))
    model = task.model(seed=0)
    out = RelDrop(p=1.0, attribution="gradient_x_input").transform(model, batch, task, stream(0, "g"))
    assert not torch.equal(out.inputs, batch.inputs)
    with pytest.raises(UserError, match="epsilon_plus_flat"):
        RelDrop(p=1.0, composite="epsilon_plus_flt").transform(model, batch, task, stream(0, "g"))
    with pytest.raises(UserError, match="alpha"):
        RelDrop(alpha=1.5)
