"""The task segmentation/scenes, and views of dense tasks."""

import dataclasses

import pytest
import torch

from regathlon_core import Budget, SampleDraw, UserError, fit, stream
from regathlon_core.rng import global_stream
from regathlon_data import digit_scenes
from regathlon_vision import DigitsSettings, ScenesSettings, ScenesTask, UNetSettings, ops


@pytest.fixture(scope="module")
def task() -> ScenesTask:
    return ScenesSettings().build()


def test_batches_are_the_scenes(task):
    scenes = digit_scenes("val")
    batch = task.batch("val", torch.tensor([3, 1]))
    assert batch.inputs.shape == (2, 3, 32, 32)
    assert torch.equal(batch.targets, torch.from_numpy(scenes.masks[[3, 1]]).long())
    flat = batch.inputs[0].flatten(1)
    original = torch.from_numpy(scenes.images[3].copy()).permute(2, 0, 1).flatten(1).float()
    for channel, reference in zip(flat, original, strict=True):  # normalised, so alike up to scale and shift
        assert torch.corrcoef(torch.stack([channel, reference]))[0, 1] > 0.9999


def test_inputs_are_normalised(task):
    inputs = task.batch("train", torch.arange(task.size("train"))).inputs
    assert inputs.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (inputs.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-4


def test_augmentation_belongs_to_the_sample(task):
    draw = SampleDraw(seed=1, epoch=4)
    together, alone = task.batch("train", torch.arange(8), draw), task.batch("train", torch.tensor([5]), draw)
    assert torch.allclose(together.inputs[5], alone.inputs[0], atol=1e-6)
    assert torch.equal(together.targets[5], alone.targets[0])
    assert not torch.equal(together.targets, task.batch("train", torch.arange(8)).targets)


def test_augmented_labels_lie_on_augmented_digits(task):
    """Ink is brighter than any canvas, so labels that moved otherwise than images would lose the contrast."""

    def contrast(batch):
        grey = batch.inputs.mean(dim=1)
        on, off = (batch.targets > 0) & (batch.targets < 255), batch.targets == 0
        return grey[on].mean() - grey[off].mean()

    index = torch.arange(64)
    plain, moved = (
        contrast(task.batch("train", index)),
        contrast(task.batch("train", index, SampleDraw(0, 0))),
    )
    assert moved > 0.9 * plain
    assert set(task.batch("train", index, SampleDraw(0, 0)).targets.unique().tolist()) <= {*range(11), 255}


def test_ignored_pixels_do_not_count(task):
    batch = task.batch("val", torch.arange(4))
    outputs = torch.randn(4, 11, 32, 32, generator=torch.Generator().manual_seed(0))
    ignored = (batch.targets == 255)[:, None]
    assert ignored.any()
    changed = torch.where(ignored, outputs * 7 + 3, outputs)
    assert torch.allclose(task.criterion(outputs, batch), task.criterion(changed, batch))
    for values in (outputs, changed):
        metrics = task.metrics()
        metrics.update(values, batch)
        assert metrics.matrix.sum() == (batch.targets != 255).sum()


def test_it_learns_in_seconds(task):
    recipe = dataclasses.replace(ScenesSettings.recipe, budget=Budget(steps=96), eval_every=99)
    with global_stream(0, "init"):
        model = UNetSettings(width=8).build(task)
    untrained = task.evaluate(model, "val")["miou"]
    result = fit(model, task, recipe=recipe, seed=0)
    nothing_but_background = float((task._data["test"][1] == 0).float().mean()) / 11
    assert result.history[-1].test["miou"] > max(untrained, nothing_but_background)


# ---- views -------------------------------------------------------------------------------------------------


def take(views, count):
    return [next(views) for _ in range(count)]


def test_scaled_views_transform_labels_and_outputs_alike(task):
    batch = task.batch("val", torch.arange(3))
    views = take(task.views(batch, stream(0, "views"), ["scale"]), 12)
    sizes = {tuple(view.batch.inputs.shape[-2:]) for view in views}
    assert sizes == {(32, 32), (28, 28), (24, 24)}
    perfect = torch.nn.functional.one_hot(batch.targets.clamp(max=10), 11).permute(0, 3, 1, 2).float()
    for view in views:
        assert view.batch.targets.shape == (3, *view.batch.inputs.shape[-2:])
        assert view.batch.targets.dtype == torch.int64
        assert set(view.batch.targets.unique().tolist()) <= set(batch.targets.unique().tolist())
        aligned = view.align(perfect).argmax(dim=1)
        counted = view.batch.targets != 255
        assert (aligned == view.batch.targets)[counted].float().mean() > 0.9


def test_rotated_views_keep_images_labels_and_outputs_together(task):
    batch = task.batch("val", torch.arange(3))
    for view in take(task.views(batch, stream(1, "views"), ["rotation"]), 6):
        assert view.batch.inputs.shape == batch.inputs.shape
        assert torch.equal(view.align(batch.inputs), view.batch.inputs)
        aligned = view.align(batch.targets[:, None].float())[:, 0]
        whole = aligned == aligned.round()  # not interpolated between two labels
        assert (aligned == view.batch.targets)[whole].float().mean() > 0.95


def test_kinds_of_view_compose_in_their_order(task):
    batch = task.batch("val", torch.arange(2))
    composed = next(task.views(batch, stream(2, "views"), ["rotation", "scale"]))
    generator = stream(2, "views")
    turned = next(task.views(batch, generator, ["rotation"])).batch
    by_hand = next(task.views(turned, generator, ["scale"])).batch
    assert torch.equal(composed.batch.inputs, by_hand.inputs)
    assert torch.equal(composed.batch.targets, by_hand.targets)


def test_without_kinds_a_view_is_scaled(task):
    batch = task.batch("val", torch.arange(2))
    views = take(task.views(batch, stream(3, "views")), 12)
    assert len({view.batch.inputs.shape for view in views}) == 3


def test_views_of_classification_keep_labels_and_outputs():
    digits = DigitsSettings().build()
    batch = digits.batch("val", torch.arange(4))
    outputs = torch.randn(4, 10)
    for view in take(digits.views(batch, stream(4, "views"), ["scale", "rotation"]), 5):
        assert torch.equal(view.batch.targets, batch.targets)
        assert view.align(outputs) is outputs


def test_an_unknown_kind_of_view_gets_the_nearest(task):
    with pytest.raises(UserError, match=r"no kind of view 'rotate'\. Did you mean 'rotation'"):
        next(task.views(task.batch("val", torch.arange(1)), stream(0), ["rotate"]))


def test_occluded_pixels_are_the_mean_of_the_data(task):
    batch = task.batch("val", torch.arange(2))
    where = torch.zeros(2, 32, 32, dtype=torch.bool)
    where[0, 5:9, 3:8] = True
    occluded = task.occlude(batch, where)
    assert occluded.inputs[0, :, 5:9, 3:8].abs().max() == 0
    assert torch.equal(occluded.inputs[:, :, ~where.any(0)], batch.inputs[:, :, ~where.any(0)])
    assert torch.equal(occluded.inputs[1], batch.inputs[1])
    assert torch.equal(occluded.targets, batch.targets)


def test_rescale_to_the_full_size_changes_nothing(task):
    batch = task.batch("val", torch.arange(1))
    assert ops.rescale(batch.inputs, 1.0) is batch.inputs
