"""Average precision, held against pycocotools."""

import contextlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.models.detection.roi_heads import paste_masks_in_image

from regathlon_core.task import Batch
from regathlon_vision.detection import DetectionScenesTask, Images, NucleiSettings
from regathlon_vision.detection.average_precision import DetectionMetrics, whole_image
from regathlon_vision.detection.coco import decode, from_coco

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


def oracle(truth, detections, kind):
    """COCO's six average precisions by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {"info": {}, **truth}
        reference.createIndex()
        run = COCOeval(reference, reference.loadRes(detections), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return dict(zip(NAMES, run.stats[:6].tolist(), strict=True))


def jittered(target, generator, classes=10):
    """Detections like an imperfect model's: moved boxes, some wrong labels, some invented."""
    boxes = target["boxes"] + torch.randn(target["boxes"].shape, generator=generator)
    boxes = torch.cat([boxes, boxes[:1] + 5])
    height, width = target["masks"].shape[1:]
    boxes[:, :2] = boxes[:, :2].clamp(torch.zeros(2), torch.tensor([width - 2.0, height - 2.0]))
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 1).clamp(max=torch.tensor([width, height]))
    labels = torch.cat([target["labels"], target["labels"][:1]])
    wrong = torch.rand(len(labels), generator=generator) < 0.2
    return {
        "boxes": boxes,
        "labels": torch.where(wrong, labels % classes + 1, labels),
        "scores": torch.rand(len(labels), generator=generator),
        "masks": torch.rand(len(labels), 1, 14, 14, generator=generator) * 0.6 + 0.35,
    }


@pytest.fixture(scope="module")
def counted():
    task = DetectionScenesTask()
    metrics = task.metrics()
    generator = torch.Generator().manual_seed(0)
    for index in task.evaluation_order("test", 16):
        batch = task.batch("test", index)
        metrics.update([jittered(target, generator) for target in batch.targets], batch)
    return metrics


@pytest.mark.parametrize(("kind", "name"), [("bbox", "box"), ("segm", "mask")])
def test_it_equals_pycocotools(counted, kind, name):
    found = counted.compute()
    wanted = oracle(counted.truth(), counted.detections, kind)
    assert 0.001 < wanted["ap"] < 0.9
    for key, value in wanted.items():
        if value == -1:
            assert f"{name}_{key}" not in found
        else:
            assert found[f"{name}_{key}"] == pytest.approx(value, abs=1e-6)


def test_crowds_and_areas_count_as_pycocotools_counts_them():
    rng = np.random.default_rng(0)
    images = [{"id": 10 + i, "file_name": f"{i}", "height": 200, "width": 240} for i in range(12)]
    annotations = []
    for image in images:
        for _ in range(int(rng.integers(0, 6))):
            width, height = (float(side) for side in rng.uniform(8, 120, 2))
            left, top = float(rng.uniform(0, 240 - width)), float(rng.uniform(0, 200 - height))
            corners = [left, top, left + width, top, left + width, top + height, left, top + height]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": int(rng.choice([3, 9])),
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": int(rng.random() < 0.2),
                    "segmentation": [corners],
                }
            )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 3}, {"id": 9}]}
    split = from_coco(content)
    metrics = DetectionMetrics([split])
    generator = torch.Generator().manual_seed(1)
    for number, record in enumerate(split.images):
        boxes = torch.tensor([item.box for item in record.instances]).reshape(-1, 4)
        boxes = boxes + 4 * torch.randn(boxes.shape, generator=generator)
        found = {
            "boxes": boxes,
            "labels": torch.tensor([item.label for item in record.instances], dtype=torch.int64),
            "scores": torch.rand(len(boxes), generator=generator),
            "masks": torch.ones(len(boxes), 1, 28, 28),
        }
        target = {"record": torch.tensor([0, number])}
        metrics.update([found], Batch(Images.of([torch.zeros(3, 200, 240)]), [target]))
    found = metrics.compute()
    original = {**content, "annotations": annotations}
    for kind, name in (("bbox", "box"), ("segm", "mask")):
        for key, value in oracle(original, metrics.detections, kind).items():
            if value > -1:
                assert found[f"{name}_{key}"] == pytest.approx(value, abs=1e-6)


@pytest.mark.realdata
@pytest.mark.parametrize(("kind", "name"), [("bbox", "box"), ("segm", "mask")])
def test_it_equals_pycocotools_on_nuclei(kind, name):
    root = os.environ.get("REGATHLON_DATA")
    if not root or not (Path(root) / "dsb2018" / "annotations").is_dir():
        pytest.skip("there are no nuclei under REGATHLON_DATA")
    task = NucleiSettings(short=128).build(Path(root))
    metrics = task.metrics()
    generator = torch.Generator().manual_seed(0)
    batch = task.batch("test", torch.arange(8))
    found = [jittered(target, generator, classes=1) for target in batch.targets]
    metrics.update(found, batch)
    computed = metrics.compute()
    wanted = oracle(metrics.truth(), metrics.detections, kind)
    assert wanted["ap"] > 0.001
    for key, value in wanted.items():
        if value > -1:
            assert computed[f"{name}_{key}"] == pytest.approx(value, abs=1e-6)


def test_the_truth_itself_is_perfect():
    task = DetectionScenesTask()
    metrics = task.metrics()
    batch = task.batch("val", torch.arange(20))
    found = []
    for target in batch.targets:
        scores = torch.ones(len(target["boxes"]))
        found.append({"boxes": target["boxes"], "labels": target["labels"], "scores": scores})
    metrics.update(found, batch)
    assert metrics.compute()["box_ap"] == pytest.approx(1.0)


def test_no_detections_are_worth_nothing():
    task = DetectionScenesTask()
    metrics = task.metrics()
    empty = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "scores": torch.zeros(0),
        "masks": torch.zeros(0, 1, 14, 14),
    }
    metrics.update([empty, empty], task.batch("val", torch.arange(2)))
    assert metrics.compute()["box_ap"] == metrics.compute()["mask_ap"] == 0


def test_detections_are_brought_back_to_the_original_image():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[4.0, 6.0, 20.0, 18.0]])
    masks = torch.rand(1, 1, 14, 14, generator=generator)
    found = whole_image({"boxes": boxes, "masks": masks}, (24, 40), (48, 60))
    assert found["boxes"].tolist() == [[6, 12, 30, 36]]
    wanted = paste_masks_in_image(masks, found["boxes"], (48, 60))[:, 0] >= 0.5
    assert torch.equal(found["masks"], wanted)
    assert found["masks"].shape == (1, 48, 60)


def test_masks_survive_their_encoding():
    task = DetectionScenesTask()
    record = task.annotations["val"].images[0]
    target = task.batch("val", torch.tensor([0])).targets[0]
    for mask, instance in zip(target["masks"], record.instances, strict=True):
        assert np.array_equal(mask.numpy(), decode(instance.mask))
