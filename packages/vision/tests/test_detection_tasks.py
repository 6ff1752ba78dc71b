"""Detection tasks: batches, resizing and mirroring, views, learning, pictures."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from regathlon_core import Budget, GradAug, SampleDraw, UserError, fit, stream
from regathlon_core.engine import Interrupted
from regathlon_core.rng import global_stream
from regathlon_core.testing import Ending
from regathlon_vision.detection import (
    DetectionScenesTask,
    FasterRCNNSettings,
    NucleiSettings,
    SmallMaskRCNNSettings,
)
from regathlon_vision.evaluations.detections.evaluation import draw_objects
from regathlon_vision.evaluations.detections.settings import DetectionsSettings

TINY = SmallMaskRCNNSettings(width=8, channels=16, proposals=32)


@pytest.fixture(scope="module")
def task():
    return DetectionScenesTask()


class Resized(DetectionScenesTask):
    """The scenes, half as large again, all mirrored in training."""

    short = 48
    flip = 1.0


def boxes_of(masks):
    """The smallest boxes around masks [N, H, W]."""
    boxes = []
    for mask in masks.numpy():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return torch.tensor(boxes, dtype=torch.float32)


def test_boxes_are_those_of_the_masks(task):
    for target in task.batch("train", torch.arange(40)).targets:
        assert torch.equal(target["boxes"], boxes_of(target["masks"]))


def test_images_boxes_and_masks_are_resized_and_mirrored_together():
    task = Resized()
    plain, mirrored = (
        task.batch("train", torch.arange(20)),
        task.batch("train", torch.arange(20), SampleDraw(0, 0)),
    )
    assert plain.inputs.sizes == ((48, 48),) * 20
    for image, target, flipped, target_of_flipped in zip(
        plain.inputs, plain.targets, mirrored.inputs, mirrored.targets, strict=True
    ):
        # Nearest neighbours put the edge of a mask within a pixel of the edge of the box.
        assert (target["boxes"] - boxes_of(target["masks"])).abs().max() <= 1
        assert torch.equal(flipped, image.flip(-1))
        assert torch.equal(target_of_flipped["masks"], target["masks"].flip(-1))
        left, top, right, bottom = target["boxes"].unbind(1)
        assert torch.equal(target_of_flipped["boxes"], torch.stack([48 - right, top, 48 - left, bottom], 1))


@pytest.mark.parametrize(
    ("short", "long", "size", "wanted"),
    [
        (0, 0, (480, 640), (480, 640)),
        (600, 1000, (480, 640), (600, 800)),
        (600, 1000, (300, 900), (333, 1000)),
        (600, 1000, (900, 300), (1000, 333)),
        (600, 1000, (1200, 1600), (600, 800)),
    ],
)
def test_the_shorter_side_is_resized_unless_the_longer_gets_too_long(task, short, long, size, wanted):
    sized = DetectionScenesTask()
    sized.short, sized.long = short, long
    assert sized.resized_to(*size) == wanted


def test_scaled_views_take_boxes_and_masks_along(task):
    batch = task.batch("val", torch.arange(3))
    views = task.views(batch, stream(0, "views"))
    sizes = set()
    for view in (next(views) for _ in range(12)):
        size = view.batch.inputs.sizes[0][0]
        sizes.add(size)
        for old, new in zip(batch.targets, view.batch.targets, strict=True):
            assert torch.allclose(new["boxes"], old["boxes"] * size / 32)
            assert new["masks"].shape == (len(old["masks"]), size, size)
            assert torch.equal(new["labels"], old["labels"])
    assert sizes == {32, 28, 24}


def test_there_are_no_rotated_views(task):
    with pytest.raises(UserError, match="no kind of view 'rotation'"):
        next(task.views(task.batch("val", torch.arange(1)), stream(0), ["rotation"]))


def test_it_learns_in_seconds(task):
    recipe = dataclasses.replace(task.settings.recipe, budget=Budget(steps=64), eval_every=99)
    with global_stream(0, "init"):
        model = SmallMaskRCNNSettings().build(task)
    short = DetectionScenesTask()
    short.evaluation_order = lambda split, batch_size: task.evaluation_order(split, 16)[:2]
    found = fit(model, short, recipe=recipe, seed=0).history[-1].test
    assert found["box_ap50"] > 0.05  # 0.3 to 0.5 in several runs; untrained 0.001
    assert found["mask_ap50"] > 0.02


def test_gradaug_with_soft_labels_resumes_to_the_bit(task, tmp_path):
    recipe = dataclasses.replace(task.settings.recipe, budget=Budget(steps=4), batch_size=2)
    short = DetectionScenesTask()
    short.evaluation_order = lambda split, batch_size: [torch.arange(1)]

    def fresh():
        with global_stream(0, "init"):
            return TINY.build(task)

    def train(model, **keywords):
        fit(model, short, GradAug(n=1, labels="soft"), recipe, seed=1, **keywords)
        return model.state_dict()

    whole = train(fresh())
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Interrupted):
        train(fresh(), checkpoint=path, observer=Ending(stop=[2]))
    resumed = train(fresh(), checkpoint=path)
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_pictures_show_truth_beside_detections(task):
    with global_stream(0, "init"):
        model = TINY.build(task)
    evaluation = DetectionsSettings(images=2, score=0.0).build()
    findings = evaluation.run(model, task, generator=stream(0))
    assert [picture.name for picture in findings.pictures] == ["test-0", "test-1"]
    for picture in findings.pictures:
        assert picture.image.shape == (3, 320, 648)
        left, right = picture.image[:, :, :320], picture.image[:, :, 328:]
        assert not torch.equal(left, right)
    assert findings.metrics["objects"] > 3


def test_boxes_are_drawn_where_they_are():
    image = torch.zeros(3, 400, 400, dtype=torch.uint8)
    objects = {"boxes": torch.tensor([[50.0, 100.0, 150.0, 300.0]]), "labels": torch.tensor([1])}
    drawn = draw_objects(image, objects, ["a", "b"])
    rows, columns = (drawn > 0).any(0).nonzero().unbind(1)
    assert (rows - 200).abs().max() <= 102
    assert (columns - 100).abs().max() <= 52
    assert torch.equal(draw_objects(image, {key: value[:0] for key, value in objects.items()}, ["a"]), image)


@pytest.mark.realdata
def test_nuclei_are_read_and_evaluated():
    root = os.environ.get("REGATHLON_DATA")
    if not root or not (Path(root) / "dsb2018" / "annotations").is_dir():
        pytest.skip("there are no nuclei under REGATHLON_DATA")
    task = NucleiSettings(problems="stop").build(Path(root))
    assert (task.size("train"), task.size("test")) == (120, 30)
    assert task.classes == ("nucleus",)
    batch = task.batch("train", torch.arange(3))
    for image, target in zip(batch.inputs, batch.targets, strict=True):
        assert min(image.shape[-2:]) == 160
        assert target["masks"].shape[1:] == image.shape[-2:]
    metrics = task.metrics()
    found = []
    for target in (batch := task.batch("test", torch.arange(10))).targets:
        found.append(
            {"boxes": target["boxes"], "labels": target["labels"], "scores": torch.ones(len(target["boxes"]))}
        )
    metrics.update(found, batch)
    assert metrics.compute()["box_ap"] > 0.99  # up to what resizing and back rounds


def test_the_large_detectors_are_torchvisions(task):
    model = FasterRCNNSettings(depth=18).build(task).train()
    loss = task.loss(model, task.batch("train", torch.arange(2)))
    assert torch.isfinite(loss)
    names = {point.name for point in task.features(model) if point.default}
    assert "backbone.body.layer4.1" in names
