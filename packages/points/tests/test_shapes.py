"""The task's data, augmentation, views and learning."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
import trimesh
from torch import nn

from regathlon_core import Budget, SampleDraw, UserError, fit
from regathlon_core.rng import global_stream
from regathlon_points import PointNet, PointNetSettings, Shapes, ShapesSettings
from regathlon_points.classification import shapes
from regathlon_points.classification.meshes import BUILDERS

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def task():
    return Shapes(ShapesSettings(points=64))


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def everything(task, split):
    return task.batch(split, torch.arange(task.size(split)))


def test_every_split_has_each_class_equally_often(task):
    assert [task.size(split) for split in SPLITS] == [600, 300, 600]
    for split in SPLITS:
        assert everything(task, split).targets.bincount().tolist() == [task.size(split) // 10] * 10


def test_clouds_fill_the_unit_sphere(task):
    for split in SPLITS:
        clouds = everything(task, split).inputs
        assert clouds.dtype == torch.float32
        assert clouds.shape[1:] == (3, 64)
        torch.testing.assert_close(clouds.norm(dim=1).amax(dim=1), torch.ones(len(clouds)))
        torch.testing.assert_close(clouds.mean(dim=2), torch.zeros(len(clouds), 3), atol=1e-6, rtol=0)


def test_no_cloud_is_there_twice(task):
    clouds = torch.cat([everything(task, split).inputs for split in SPLITS]).flatten(1)
    assert len(clouds.unique(dim=0)) == len(clouds)


def test_the_data_are_the_same_each_time_they_are_made(task):
    again = shapes._clouds.__wrapped__("val", 64, ShapesSettings().noise)
    assert torch.equal(again[0], everything(task, "val").inputs)
    assert torch.equal(again[1], everything(task, "val").targets)


@pytest.mark.parametrize("kind", BUILDERS)
def test_meshes_are_solids_of_many_proportions(kind):
    rng = np.random.default_rng(0)
    meshes = [BUILDERS[kind](rng) for _ in range(6)]
    for mesh in meshes:
        assert mesh.is_watertight
        assert mesh.volume > 0
    compactness = [mesh.area**3 / mesh.volume**2 for mesh in meshes]
    assert len(np.unique(np.round(compactness, 6))) == 6
    assert min(compactness) >= 36 * math.pi  # the isoperimetric inequality


def test_prisms_cover_their_outline():
    """The fan of triangles must tile the L: two bars that share a corner."""
    rng = np.random.default_rng(3)
    state = rng.bit_generator.state
    mesh = BUILDERS["angle"](rng)
    rng.bit_generator.state = state
    width, thick, other = rng.uniform(0.6, 1.0), rng.uniform(0.15, 0.35), rng.uniform(0.15, 0.35)
    height = rng.uniform(0.3, 1.0)
    assert mesh.volume == pytest.approx((thick + other * (width - thick)) * height)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_noise_has_the_stated_spread(noise):
    """On a ball the distances from the centre tell it, but for how far the sample's centroid lies from it."""
    count = 20_000
    ball = trimesh.creation.icosphere(subdivisions=4)
    radius = np.linalg.norm(shapes._cloud(ball, count, noise, np.random.default_rng(0)), axis=1)
    off_centre = 5 * math.sqrt(1 / (3 * count))
    spread = radius.std() / radius.mean()
    assert spread == pytest.approx(noise, abs=5 * noise / math.sqrt(2 * count) + off_centre)


def test_clouds_have_as_many_points_as_the_settings_say():
    task = Shapes(ShapesSettings(points=32))
    assert {everything(task, split).inputs.shape[2] for split in SPLITS} == {32}


@pytest.mark.parametrize("settings", [{"points": 0}, {"noise": -0.1}, {"noise": math.nan}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        ShapesSettings(**settings)


@pytest.mark.parametrize("settings", [{"width": 0.0}, {"width": math.inf}, {"dropout": 1.0}])
def test_model_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        PointNetSettings(**settings)


def test_augmentation_belongs_to_the_sample(task):
    draw = SampleDraw(seed=1, epoch=2)
    together = task.batch("train", torch.tensor([3, 8, 5]), draw)
    alone = task.batch("train", torch.tensor([8]), draw)
    assert torch.equal(together.inputs[1:2], alone.inputs)
    assert torch.equal(together.index, torch.tensor([3, 8, 5]))
    assert not torch.equal(alone.inputs, task.batch("train", torch.tensor([8]), SampleDraw(1, 3)).inputs)
    assert not torch.equal(alone.inputs, task.batch("train", torch.tensor([8]), SampleDraw(2, 2)).inputs)


def test_augmentation_is_a_turn_about_z_a_scale_and_little_jitter(task):
    index = torch.arange(600)
    before, after = everything(task, "train").inputs, task.batch("train", index, SampleDraw(0, 0)).inputs
    heights = (before[:, 2] * after[:, 2]).sum(1) / before[:, 2].square().sum(1)
    assert (heights > 0.6).all()
    assert (heights < 1.6).all()
    unscaled = after / heights[:, None, None]
    # About z the distance from the axis and the height stay; jitter of 0.01 moves a coordinate by 0.05 at
    # most.
    assert (unscaled[:, 2] - before[:, 2]).abs().max() < 0.12
    assert (unscaled[:, :2].norm(dim=1) - before[:, :2].norm(dim=1)).abs().max() < 0.2
    angle = torch.atan2(unscaled[:, 1, 0], unscaled[:, 0, 0]) - torch.atan2(before[:, 1, 0], before[:, 0, 0])
    quarters = ((angle % (2 * math.pi)) / (math.pi / 2)).long().bincount(minlength=4)
    assert (quarters - 150).abs().max() < 5 * math.sqrt(600 * 3 / 16)


def test_jitter_has_the_stated_spread(task):
    """Of two epochs' clouds only what the turn and the scale explain is taken away; the rest is jitter."""
    cloud = torch.zeros(1, 3, 4096)
    flat = Shapes(ShapesSettings(points=64))
    flat._splits = {"train": (cloud, torch.zeros(1, dtype=torch.int64))}
    jitter = flat.batch("train", torch.tensor([0]), SampleDraw(0, 0)).inputs.flatten()
    deviation = 0.01 / math.sqrt(2 * len(jitter))  # of the standard deviation of as many normal numbers
    assert abs(float(jitter.std()) - 0.01) < 5 * deviation
    assert abs(float(jitter.mean())) < 5 * 0.01 / math.sqrt(len(jitter))
    assert float(jitter.abs().max()) <= 0.05


def test_evaluation_sees_clouds_as_they_are(task):
    index = torch.tensor([4, 1])
    assert torch.equal(task.batch("test", index).inputs, everything(task, "test").inputs[index])


@pytest.mark.parametrize(
    "kinds", [(), ("scale",), ("rotation",), ("subsample",), ("subsample", "rotation", "scale")]
)
def test_views_keep_labels_and_draw_from_the_generator_alone(task, kinds, generator):
    batch = task.batch("train", torch.arange(5))
    before = batch.inputs.clone()
    first = task.views(batch, generator, kinds)
    again = task.views(batch, torch.Generator().manual_seed(0), kinds)
    clouds = []
    for _ in range(4):
        view, same = next(first), next(again)
        assert torch.equal(view.batch.inputs, same.batch.inputs)
        assert torch.equal(view.batch.targets, batch.targets)
        logits = torch.randn(5, 10)
        assert view.align(logits) is logits
        clouds.append(view.batch.inputs)
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in itertools.pairwise(clouds))
    assert torch.equal(batch.inputs, before)


def test_views_do_what_their_names_say(task, generator):
    batch = task.batch("train", torch.arange(6))
    gram = batch.inputs.mT @ batch.inputs
    turned = next(task.views(batch, generator, ["rotation"])).batch.inputs
    torch.testing.assert_close(turned.mT @ turned, gram, atol=1e-5, rtol=1e-5)
    assert torch.equal(turned[:, 2], batch.inputs[:, 2])
    scaled = next(task.views(batch, generator, ["scale"])).batch.inputs
    factors = (scaled / batch.inputs).flatten(1)
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors))
    assert ((factors > 0.66) & (factors < 1.51)).all()
    stream = task.views(batch, generator, ["subsample"])
    for _ in range(20):
        fewer = next(stream).batch.inputs
        assert 32 <= fewer.shape[2] <= 64
        for cloud, original in zip(fewer, batch.inputs, strict=True):
            assert (cloud[:, :, None] == original[:, None]).all(0).sum() == cloud.shape[1]


def test_an_unknown_view_names_the_valid_ones(task, generator):
    with pytest.raises(UserError, match="Did you mean 'rotation'"):
        next(task.views(task.batch("train", torch.arange(2)), generator, ["rotate"]))


def test_what_is_occluded_lies_at_the_origin(task):
    batch = task.batch("train", torch.arange(3))
    where = torch.rand(3, 64, generator=torch.Generator().manual_seed(0)) < 0.3
    occluded = task.occlude(batch, where).inputs
    assert (occluded.mT[where] == 0).all()
    assert torch.equal(occluded.mT[~where], batch.inputs.mT[~where])
    assert (batch.inputs.norm(dim=1) > 0).all()


@pytest.mark.parametrize(
    "settings", [{}, {"transform": True}, {"width": 0.01}, {"dropout": 0.3, "width": 1.0}]
)
def test_pointnet_does_not_see_the_order_of_points(task, settings):
    with global_stream(0, "test"):
        model = PointNetSettings(**settings).build(task).eval()
    clouds = task.batch("test", torch.arange(4)).inputs
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(clouds[:, :, order]), model(clouds))
    assert model(clouds).shape == (4, 10)


def test_pointnet_of_width_one_has_the_published_channels():
    model = PointNet(3, 40)
    assert [point.channels for point in model.feature_points()] == [64, 64, 64, 128, 1024]
    # The paper's table 6 counts 0.8M for its network without T-Nets.
    assert 0.75e6 < sum(p.numel() for p in model.parameters()) < 0.85e6


def test_the_input_transform_begins_as_the_identity_and_learns(task):
    batch = task.batch("train", torch.arange(8))
    with global_stream(0, "test"):
        model = PointNetSettings(transform=True).build(task)
    torch.testing.assert_close(model.transform(batch.inputs), torch.eye(3).expand(8, 3, 3))
    task.loss(model, batch).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_more_channels_than_coordinates_pass_the_input_transform():
    model = PointNet(6, 4, width=0.1, transform=True).eval()
    assert model(torch.randn(2, 6, 20)).shape == (2, 4)


def test_a_batch_of_one_can_be_trained_on(task):
    with global_stream(0, "test"):
        model = PointNetSettings().build(task).train()
    task.loss(model, task.batch("train", torch.tensor([0]))).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_feature_points_name_modules_of_that_shape(task):
    with global_stream(0, "test"):
        model = PointNetSettings().build(task)
    seen = {}
    for point in task.features(model):
        model.get_submodule(point.module).register_forward_hook(
            lambda module, inputs, output, name=point.module: seen.__setitem__(name, tuple(output.shape))
        )
    model(task.batch("train", torch.arange(2)).inputs)
    assert seen == {point.module: (2, point.channels, 64) for point in task.features(model)}
    assert [point.module for point in task.features(model) if point.default] == ["layers.3"]
    assert isinstance(model.get_submodule(task.output_layers(model)[0]), nn.Linear)


def test_a_model_without_feature_points_is_explained(task):
    with pytest.raises(UserError, match=r"Linear has no method feature_points\(\)"):
        task.features(nn.Linear(3, 10))


def test_it_learns_in_seconds(task):
    with global_stream(0, "init"):
        model = task.settings.models[0]().build(task)
    recipe = dataclasses.replace(task.settings.recipe, budget=Budget(epochs=3), eval_every=3)
    accuracy = fit(model, task, recipe=recipe, seed=0).history[-1].test["accuracy"]
    assert accuracy > 0.1 + 5 * math.sqrt(0.09 / 600) + 0.2
