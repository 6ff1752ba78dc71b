"""Flipping curves, robustness to occlusion and sparsity of channels, on models whose answers are known."""

import math

import pytest
import torch
from torch import nn

from regathlon_core import UserError
from regathlon_core.attribution import lrp, lrp_of_layers
from regathlon_core.evaluations.channel_sparsity.evaluation import gini
from regathlon_core.evaluations.channel_sparsity.settings import ChannelSparsitySettings
from regathlon_core.evaluations.charts import BLUE, GREY, line_chart
from regathlon_core.evaluations.flipping.settings import FlippingSettings
from regathlon_core.evaluations.occlusion.settings import OcclusionSettings
from regathlon_core.evaluations.samples import spread, spread_test_batches
from regathlon_core.testing import ToyImages, ToyPoints

TASKS = [ToyImages, ToyPoints]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class OnePixel(nn.Module):
    """Class 0 where one pixel is not zero, else class 1."""

    def __init__(self, row, column):
        super().__init__()
        self.row, self.column = row, column

    def forward(self, x):
        seen = x[:, 0, self.row, self.column].abs()
        return torch.stack([1e5 * seen, 0.001 * x.abs().flatten(1).sum(1) + 1, 0 * seen], dim=1)


class FirstClass(ToyImages):
    """The toy with every image of the first class."""

    def batch(self, split, index, draw=None):
        batch = super().batch(split, index, draw)
        return batch.replace(targets=torch.zeros_like(batch.targets))


def test_the_most_relevant_position_breaks_the_prediction_at_once():
    task, model = FirstClass(), OnePixel(2, 3).eval()
    findings = FlippingSettings(samples=16, steps=8).build().run(model, task, generator=generator())
    metrics = findings.metrics
    total = task.batch("test", torch.arange(1)).inputs[0, 0].numel()
    assert (
        metrics["auc_most"] < 0.5 / 8 + 0.3 * 7 / 8
    )  # gone in the first portion; class 0 then has less than 0.3
    assert metrics["auc_least"] > 0.8
    assert metrics["gap"] == pytest.approx(metrics["auc_least"] - metrics["auc_most"])
    assert metrics["auc_most"] < metrics["auc_random"] < metrics["auc_least"]
    (picture,) = findings.pictures
    assert picture.image.dtype == torch.uint8
    assert total > 8


def test_curves_of_a_model_that_looks_at_nothing_are_flat():
    task = ToyImages()

    class Blind(nn.Module):
        def forward(self, x):
            return 0 * x.flatten(1)[:, :3]

    metrics = FlippingSettings(samples=8, steps=4).build().run(Blind(), task, generator=generator()).metrics
    for name in ("auc_most", "auc_random", "auc_least"):
        assert metrics[name] == pytest.approx(1 / 3)


@pytest.mark.parametrize("make", TASKS)
@pytest.mark.parametrize("attribution", ["lrp", "gradient_x_input"])
def test_curves_start_at_the_probability_of_whole_samples_and_end_at_that_of_nothing(make, attribution):
    task = make()
    model = task.model(seed=0).eval()
    settings = FlippingSettings(samples=10, steps=1, attribution=attribution)
    metrics = settings.build().run(model, task, generator=generator()).metrics
    batch = task.batch("test", spread(10, task.size("test")))
    nothing = task.occlude(batch, torch.ones_like(task.attributed(batch.inputs)[:, 0], dtype=torch.bool))
    with torch.no_grad():
        whole, empty = (
            task.predict(model, seen).double().softmax(1).gather(1, batch.targets[:, None]).mean()
            for seen in (batch, nothing)
        )
    for name in ("auc_most", "auc_random", "auc_least"):
        assert metrics[name] == pytest.approx(float(whole + empty) / 2, abs=1e-9)


def test_occluding_the_one_pixel_that_counts():
    task, model = FirstClass(), OnePixel(4, 4).eval()
    findings = OcclusionSettings(shares=(0.1, 0.3)).build().run(model, task, generator=generator())
    metrics = findings.metrics
    assert metrics["clean"] == 1.0
    assert metrics["relevant@0.1"] == metrics["relevant@0.3"] == metrics["relevant"] == 0.0
    assert metrics["random@0.1"] > metrics["random@0.3"] > 0.2
    assert metrics["random"] == pytest.approx((metrics["random@0.1"] + metrics["random@0.3"]) / 2)
    assert len(findings.pictures) == 1


def test_squares_have_the_share_and_lie_inside():
    from regathlon_core.evaluations.occlusion.evaluation import _part

    score = torch.rand(200, 12, 9, generator=generator())
    for share in (0.1, 0.3, 0.5):
        where = _part(score, share)
        height, width = round(12 * share**0.5), round(9 * share**0.5)
        assert torch.equal(where.flatten(1).sum(1), torch.full((200,), height * width))
        best = score.flatten(1).argmax(1)
        assert bool(where.flatten(1).gather(1, best[:, None]).all())
    row = _part(score.flatten(1), 0.25)
    assert torch.equal(row.sum(1), torch.full((200,), 27))
    assert bool(
        (score.flatten(1)[row].view(200, -1).amin(1) > score.flatten(1)[~row].view(200, -1).amax(1)).all()
    )


@pytest.mark.parametrize("make", TASKS)
def test_they_run_on_every_modality_and_are_deterministic(make):
    task = make()
    model = task.model(seed=0).eval()
    for settings in (
        FlippingSettings(samples=6, steps=3),
        OcclusionSettings(samples=6),
        ChannelSparsitySettings(samples=6),
    ):
        assert settings.refusal(task.settings) is None
        first = settings.build().run(model, task, generator=generator(3))
        again = settings.build().run(model, task, generator=generator(3))
        assert first.metrics == again.metrics
        assert first.metrics
        assert all(math.isfinite(value) for value in first.metrics.values())


def test_gini():
    assert gini(torch.ones(5)).item() == pytest.approx(0)
    assert gini(torch.tensor([0.0, 0.0, 1.0])).item() == pytest.approx(2 / 3)
    values = torch.rand(40, generator=generator(), dtype=torch.float64)
    slow = sum(abs(float(a - b)) for a in values for b in values) / (2 * 40 * float(values.sum()))
    assert gini(values).item() == pytest.approx(slow)


def test_sparsity_tells_one_channel_from_all():
    task = ToyImages()

    class Layers(nn.Module):
        """Sees each channel of a layer alike, or only the first."""

        def __init__(self, weights):
            super().__init__()
            self.spread = nn.Conv2d(1, 4, 1, bias=False)
            self.act = nn.ReLU()
            self.head = nn.Linear(4, 3, bias=False)
            with torch.no_grad():
                self.spread.weight.fill_(1.0)
                self.head.weight.copy_(torch.tensor(weights).expand(3, 4))

        def forward(self, x):
            return self.head(self.act(self.spread(x.abs())).mean((2, 3)))

    for weights, wanted in (([1.0, 1.0, 1.0, 1.0], 0.0), ([1.0, 0.0, 0.0, 0.0], 0.75)):
        settings = ChannelSparsitySettings(layers=("act",), samples=5)
        metrics = settings.build().run(Layers(weights).eval(), task, generator=generator()).metrics
        assert metrics["gini/act"] == pytest.approx(wanted, abs=1e-5)
        assert metrics["gini_of_mean/act"] == pytest.approx(wanted, abs=1e-5)
    with pytest.raises(UserError, match="act"):
        ChannelSparsitySettings(layers=("akt",)).build().run(Layers(weights), task, generator=generator())


def test_relevance_of_layers_is_conserved_and_leaves_no_trace():
    task = ToyImages()
    model = task.model(seed=0).double().train()
    batch = task.batch("test", torch.arange(4))
    inputs = batch.inputs.double()
    names = [name for name, module in model.named_modules() if name and not list(module.children())]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    relevances = lrp_of_layers(model, inputs, batch.targets, names)
    totals = {name: float(relevance.flatten(1).sum(1).mean()) for name, relevance in relevances.items()}
    assert totals[names[-1]] == pytest.approx(1.0)
    assert totals[names[0]] == pytest.approx(1.0, abs=1e-6)
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())
    with pytest.raises(UserError, match="layer"):
        lrp_of_layers(model, inputs, batch.targets, ["no such layer"])
    assert torch.equal(lrp(model, inputs, batch.targets), lrp(model, inputs, batch.targets))


def test_charts_put_curves_where_they_belong():
    image = line_chart([([0.0, 1.0], BLUE), ([0.5, 0.5], GREY)])
    blue = (image == torch.tensor(BLUE, dtype=torch.uint8)[:, None, None]).all(0)
    rows, columns = blue.nonzero(as_tuple=True)
    assert int(columns.min()) == 24
    assert int(columns.max()) == 480 - 24
    assert int(rows[columns == 24].max()) >= 320 - 24  # zero is below
    assert int(rows[columns == 456].min()) <= 24 + 1  # one is above
    assert line_chart([([float("nan"), 1.0], BLUE), ([0.3], GREY)]).shape == (3, 320, 480)


def test_settings_are_checked():
    for wrong in (
        lambda: FlippingSettings(steps=0),
        lambda: FlippingSettings(samples=-1),
        lambda: FlippingSettings(attribution="shap"),
        lambda: OcclusionSettings(shares=()),
        lambda: OcclusionSettings(shares=(1.0,)),
        lambda: OcclusionSettings(samples=-1),
        lambda: ChannelSparsitySettings(samples=-1),
    ):
        with pytest.raises(UserError):
            wrong()


@pytest.mark.parametrize(("count", "size"), [(1, 7), (2, 7), (3, 7), (7, 7), (9, 7), (256, 10_000), (10, 1)])
def test_samples_are_spread_over_the_whole_split(count: int, size: int) -> None:
    chosen = spread(count, size)
    assert len(chosen) == len(set(chosen.tolist())) == min(count, size)
    assert chosen[0] == 0
    assert chosen[-1] == (size - 1 if min(count, size) > 1 else 0)
    gaps = chosen.diff()
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_few_samples_of_a_split_sorted_by_class_hold_every_class() -> None:
    class Sorted(ToyImages):
        def batch(self, split, index, draw=None):  # type: ignore[no-untyped-def]
            labels = super().batch(split, torch.arange(self.size(split))).targets
            return super().batch(split, labels.argsort(stable=True)[index], draw)

    task = Sorted()
    classes = int(task.batch("test", torch.arange(task.size("test"))).targets.max()) + 1
    seen = torch.cat([batch.targets for batch in spread_test_batches(task, 4 * classes)])
    assert len(seen) == 4 * classes
    assert set(seen.tolist()) == set(range(classes))
