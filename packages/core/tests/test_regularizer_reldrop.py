"""RelDrop: where it occludes, how often, and what it explains."""

import math

import pytest
import torch
import torch.nn.functional as F

from regathlon_core import Budget, Compose, CutMix, Mixup, Recipe, RelDrop, RelDropSettings, UserError, fit
from regathlon_core.attribution import lrp
from regathlon_core.ops.sampling import sample_bernoulli
from regathlon_core.passes import PassRole, current_role
from regathlon_core.regularizers.reldrop import regularizer as implementation
from regathlon_core.regularizers.reldrop.averaging import lent_weights
from regathlon_core.regularizers.reldrop.functional import (
    normalized_relevance,
    sample_relevant_blocks,
    sample_relevant_positions,
)
from regathlon_core.rng import stream
from regathlon_core.testing import ToyImages, ToyPoints, conformance_checks
from regathlon_core.testing.toys.images import ToyImagesSettings


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
    generator = stream(0, "reldrop")
    sample_bernoulli((12,), 1.0, generator=generator)  # the coins
    where = sample_relevant_blocks(relevance, generator=generator)
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


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return where the number of samples of every attribution will be noted."""
    asked: list[int] = []

    def noted(model, inputs, classes, **options):
        asked.append(len(classes))
        return lrp(model, inputs, classes, **options)

    monkeypatch.setattr(implementation, "lrp", noted)
    return asked


def test_only_samples_to_be_occluded_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    task = ToyImages()
    model = task.model(seed=0)
    batch = task.batch("train", torch.arange(96))
    asked = counting(monkeypatch)
    generator = stream(0, "coin")
    out = RelDrop(p=0.25).transform(model, batch, task, generator)
    generator = stream(0, "coin")
    coins = sample_bernoulli((96,), 0.25, generator=generator)
    assert asked == [int(coins.sum())]
    changed = (out.inputs != batch.inputs).flatten(1).any(1)
    assert torch.equal(changed | coins, coins)
    relevance = lrp(model, batch.inputs, batch.targets).sum(1)[coins]
    where = sample_relevant_blocks(relevance, generator=generator)
    assert torch.equal(out.inputs[coins], batch.inputs[coins].masked_fill(where[:, None], 0.0))
    assert RelDrop(p=1e-9).transform(model, batch, task, stream(0, "coin")) is batch


def test_relevance_in_every_third_step_and_chance_in_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    task = ToyImages()
    model = task.model(seed=0)
    batch = task.batch("train", torch.arange(32))
    asked = counting(monkeypatch)
    regularizer = RelDrop(p=1.0, every=3)
    for step in range(7):
        out = regularizer.transform(model, batch, task, stream(0, "every"))
        assert len(asked) == step // 3 + 1
        assert bool((out.inputs != batch.inputs).flatten(1).any(1).all())
        regularizer.after_step((step + 1) / 7)
    points = ToyPoints()
    cloud = points.batch("train", torch.arange(40))
    regularizer = RelDrop(alpha=0.0, beta=0.2, every=2)
    regularizer.after_step(0.5)
    rounds, generator, dropped = 20, stream(0, "rate"), 0
    for _ in range(rounds):
        out = regularizer.transform(points.model(seed=0), cloud, points, generator).inputs
        dropped += int((out != cloud.inputs).any(1).sum())
    n = rounds * cloud.inputs[:, 0].numel()
    assert dropped / n == pytest.approx(0.2, abs=5 * math.sqrt(0.2 * 0.8 / n))


def test_chance_alone_asks_for_no_relevance(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = counting(monkeypatch)
    for task, settings in ((ToyImages(), {"p": 1.0}), (ToyPoints(), {"beta": 0.3})):
        batch = task.batch("train", torch.arange(16))
        out = RelDrop(alpha=1.0, **settings).transform(task.model(seed=0), batch, task, stream(0, "chance"))
        assert not torch.equal(out.inputs, batch.inputs)
    assert asked == []


def test_alpha_moves_over_the_budget() -> None:
    regularizer = RelDrop(alpha=0.2, alpha_end=1.0)
    seen = [regularizer.diagnostics()["alpha"]]
    for progress in (0.25, 0.5, 1.0):
        regularizer.after_step(progress)
        seen.append(regularizer.diagnostics()["alpha"])
    assert seen == pytest.approx([0.2, 0.4, 0.6, 1.0])
    again = RelDrop(alpha=0.2, alpha_end=1.0)
    again.load_state_dict(regularizer.state_dict())
    assert again.diagnostics() == regularizer.diagnostics()
    assert RelDrop(alpha=0.2).diagnostics() == {}
    with pytest.raises(UserError, match="needs an alpha"):
        RelDrop(alpha_end=1.0)


def test_relevance_of_the_average_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    task = ToyImages()
    model = task.model(seed=0)
    first = [parameter.detach().clone() for parameter in model.parameters()]
    regularizer = RelDrop(p=1.0, average=0.75)
    regularizer.attach(model, task)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1.0
    regularizer.after_step(0.5)
    seen = []

    def noted(asked, inputs, classes, **options):
        seen.extend(parameter.detach().clone() for parameter in asked.parameters())
        return lrp(asked, inputs, classes, **options)

    monkeypatch.setattr(implementation, "lrp", noted)
    regularizer.transform(model, task.batch("train", torch.arange(4)), task, stream(0, "average"))
    for before, average, now in zip(first, seen, model.parameters(), strict=True):
        torch.testing.assert_close(average, before + 0.25)
        torch.testing.assert_close(now.detach(), before + 1.0)
    assert any(name.startswith("average_") for name in regularizer.state_dict())
    assert not any(parameter.requires_grad for parameter in regularizer.buffers())
    regularizer.detach()
    assert not any(name.startswith("average_") for name in regularizer.state_dict())


def test_lent_weights_come_back_after_an_error() -> None:
    model = torch.nn.Linear(2, 2)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    kept = [parameter.data_ptr() for parameter in model.parameters()]

    def fail() -> None:
        with lent_weights(model, [torch.zeros(2, 2), torch.zeros(2)]):
            assert float(model.weight.detach().abs().sum()) == 0
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [parameter.data_ptr() for parameter in model.parameters()] == kept
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_several_blocks_cover_what_the_first_ones_leave() -> None:
    relevance = torch.zeros(200, 21, 21)
    places = ((3, 3), (3, 17), (17, 10))
    for rank, (row, column) in enumerate(places):
        relevance[:, row, column] = 3.0 - rank
    small = {"area": (0.06, 0.07), "aspect": (0.9, 1.1)}  # three blocks of about 3 x 3
    for blocks in (1, 2, 3):
        where = sample_relevant_blocks(relevance, blocks=blocks, generator=stream(0, "b"), **small)
        assert [bool(where[:, row, column].all()) for row, column in places] == [n < blocks for n in range(3)]


def test_spans_of_sequences() -> None:
    relevance = torch.zeros(100, 30)
    relevance[:, 12] = 1
    where = sample_relevant_blocks(relevance, generator=stream(0, "span"))
    assert bool(where[:, 12].all())
    starts = (where & ~torch.nn.functional.pad(where, (1, 0))[:, :-1]).sum(1)
    assert bool((starts == 1).all())  # one span each


@pytest.mark.parametrize("mixing", [CutMix(p=1.0), Mixup()], ids=["cutmix", "mixup"])
def test_inputs_are_explained_and_occluded_before_they_are_mixed(mixing, monkeypatch) -> None:
    task = ToyImages()
    model = task.model(seed=0)
    batch = task.batch("train", torch.arange(24))
    explained = []

    def noted(asked, inputs, classes, **options):
        assert current_role() is PassRole.FULL
        explained.append((inputs.clone(), classes.clone()))
        return lrp(asked, inputs, classes, **options)

    monkeypatch.setattr(implementation, "lrp", noted)
    both = Compose([mixing, RelDrop(p=1.0)])
    out = both.transform(model, batch, task, stream(0, "both"))
    ((inputs, classes),) = explained
    assert torch.equal(inputs, batch.inputs)
    assert torch.equal(classes, batch.targets)
    assert out.mixed is not None
    occluded = RelDrop(p=1.0).transform(model, batch, task, generator := stream(0, "both"))
    mixed = mixing.transform(model, occluded, task, generator)
    assert torch.equal(out.inputs, mixed.inputs)
    assert torch.equal(out.mixed.targets, mixed.mixed.targets)


def test_integrated_gradients_where_captum_is() -> None:
    pytest.importorskip("captum")
    task = ToyImages()
    batch = task.batch("train", torch.arange(6))
    out = RelDrop(p=1.0, attribution="integrated_gradients").transform(
        task.model(seed=0), batch, task, stream(0, "ig")
    )
    assert bool((out.inputs != batch.inputs).flatten(1).any(1).all())


@pytest.mark.parametrize(
    "settings", [{"every": 2}, {"average": 0.9}, {"alpha": 1.0, "alpha_end": 0.0, "blocks": 2}]
)
def test_variants_train(settings) -> None:
    task = ToyImages()
    result = fit(task.model(seed=0), task, RelDrop(p=1.0, **settings), Recipe(budget=Budget(steps=3)))
    assert result.cost.steps == 3


def test_settings_are_checked() -> None:
    for wrong in (
        {"every": 0},
        {"average": 1.0},
        {"blocks": 0},
        {"mode": "blocks"},
        {"attribution": "shap"},
        {"alpha": 0.5, "alpha_end": 2.0},
    ):
        with pytest.raises(UserError):
            RelDrop(**wrong)


@pytest.mark.parametrize("fill", [0.0, 3.0])
def test_constant_relevance_and_single_positions_give_no_nan(fill: float) -> None:
    for shape in ((1, 1), (2, 7), (1, 1, 1), (2, 4, 4)):
        relevance = torch.full(shape, fill)
        assert bool(normalized_relevance(relevance).eq(0).all())
        dropped = sample_relevant_positions(relevance, 0.5, 0.15, generator=stream(0, "c"))
        assert not bool(dropped.any())  # alpha·u + 0 < 1 - beta
        assert sample_relevant_blocks(relevance, generator=stream(0, "c")).shape == relevance.shape


VARIANT = RelDropSettings(p=1.0, every=2, average=0.9, alpha=0.5, alpha_end=0.0, blocks=2)


@pytest.mark.parametrize("check", conformance_checks(VARIANT, [ToyImagesSettings()]), ids=str)
def test_its_own_settings_conform_together(check) -> None:
    check()
