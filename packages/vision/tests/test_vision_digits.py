"""The task vision/digits."""

import dataclasses

import pytest
import torch

from regathlon_core import Budget, GradAug, Recipe, SampleDraw, UserError, fit
from regathlon_core.rng import global_stream
from regathlon_data import load_digits
from regathlon_vision import DigitsSettings, DigitsTask, ResNet8Settings, ResNet18Settings


@pytest.fixture(scope="module")
def task() -> DigitsTask:
    return DigitsSettings().build()


def test_batches_have_the_declared_shapes(task):
    batch = task.batch("val", torch.arange(5))
    assert batch.inputs.shape == (5, 1, 8, 8)
    assert batch.inputs.dtype == torch.float32
    assert batch.targets.dtype == torch.int64
    assert len(task.classes) == 10
    assert task.in_channels == 1


def test_splits_are_stratified_and_hold_every_digit_once(task):
    counts = {
        split: torch.bincount(task.batch(split, torch.arange(task.size(split))).targets) for split in SPLITS
    }
    everything = torch.bincount(torch.from_numpy(load_digits().labels.copy()))
    assert torch.equal(sum(counts.values()), everything)
    for split, share in SPLITS.items():  # cuts are rounded, so each class is within one digit of its share
        assert (counts[split] - share * everything).abs().max() <= 1


SPLITS = {"train": 0.6, "val": 0.15, "test": 0.25}


def test_labels_belong_to_their_images(task):
    digits = load_digits()
    by_pixels = {
        image.tobytes(): int(label) for image, label in zip(digits.images, digits.labels, strict=True)
    }
    batch = task.batch("test", torch.arange(task.size("test")))
    low, high = batch.inputs.min(), batch.inputs.max()
    ink = ((batch.inputs - low) / (high - low) * 16).round().to(torch.uint8).numpy()
    assert [by_pixels[image.tobytes()] for image in ink[:, 0]] == batch.targets.tolist()


def test_inputs_are_normalised(task):
    inputs = task.batch("train", torch.arange(task.size("train"))).inputs
    assert inputs.mean().abs() < 1e-5
    assert (inputs.std() - 1).abs() < 1e-5


def test_augmentation_belongs_to_the_sample(task):
    draw = SampleDraw(seed=3, epoch=1)
    together = task.batch("train", torch.arange(20), draw).inputs
    alone = task.batch("train", torch.tensor([11]), draw).inputs
    assert torch.equal(together[11], alone[0])
    assert not torch.equal(
        together, task.batch("train", torch.arange(20), SampleDraw(seed=3, epoch=2)).inputs
    )


def test_augmentation_shifts_by_at_most_a_pixel(task):
    plain = task.batch("train", torch.arange(64)).inputs
    moved = task.batch("train", torch.arange(64), SampleDraw(0, 0)).inputs
    background = plain.min()
    padded = torch.nn.functional.pad(plain, (1,) * 4, value=float(background))
    shifts = torch.stack([padded[:, :, i : i + 8, j : j + 8] for i in range(3) for j in range(3)])
    same = (shifts == moved).flatten(2).all(-1)
    assert same.any(0).all()
    assert same.any(1).sum() == 9  # each of the nine shifts occurs among 64


def test_evaluation_is_not_augmented(task):
    assert torch.equal(
        task.batch("train", torch.arange(4)).inputs, task.batch("train", torch.arange(4)).inputs
    )


def test_it_learns_in_seconds(task):
    recipe = dataclasses.replace(DigitsSettings.recipe, budget=Budget(epochs=4))
    with global_stream(0, "init"):
        model = ResNet8Settings(width=8).build(task)
    result = fit(model, task, recipe=recipe, seed=0)
    assert result.history[-1].test["accuracy"] > 0.5


@pytest.mark.parametrize(
    "settings", [ResNet8Settings(width=4), ResNet18Settings(), ResNet18Settings(small_stem=False)]
)
def test_models_fit_the_task(task, settings):
    model = settings.build(task)
    batch = task.batch("train", torch.arange(4))
    task.loss(model, batch).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    points = task.features(model)
    assert any(point.default for point in points)
    shapes = {}
    for point in points:
        model.get_submodule(point.module).register_forward_hook(
            lambda module, args, output, name=point.module: shapes.update({name: output.shape[1]})
        )
    model(batch.inputs)
    assert shapes == {point.module: point.channels for point in points}
    assert [model.get_submodule(name).out_features for name in task.output_layers(model)] == [10]


def test_wrong_settings_are_refused():
    with pytest.raises(UserError, match="width must be at least 1"):
        ResNet8Settings(width=0)


def test_statistics_of_sub_networks_ruin_evaluation(task):
    """Yang, Zhu & Chen 2020, section 3.1: batch-norm's statistics are the full network's alone; else accuracy collapses."""
    accuracy = {}
    for moved in (False, True):
        with global_stream(0, "init"):
            model = ResNet8Settings(width=8).build(task)
        recipe = Recipe(lr=0.1, batch_size=64, budget=Budget(epochs=4), eval_every=4)
        result = fit(model, task, GradAug(n=3, alpha=0.5, sub_statistics=moved), recipe, seed=0)
        accuracy[moved] = result.history[-1].test["accuracy"]
    assert accuracy[False] > accuracy[True] + 0.1  # about 0.4 in trials
