"""Files in COCO's format: what they hold, and what is wrong with them."""

import copy
import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as oracle

from regathlon_core import UserError
from regathlon_data import digit_scenes
from regathlon_vision.detection import CocoSettings, FolderSettings, from_coco, read_annotations
from regathlon_vision.detection.coco import decode

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # pycocotools 2.0.11

HEIGHT, WIDTH = 20, 30


def square(top, left, side):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def uncompressed(mask):
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": [0, *runs] if flat[0] else runs}


def compressed(mask):
    found = oracle.encode(np.asfortranarray(mask))
    return {"size": found["size"], "counts": found["counts"].decode()}


def annotation(number, image=1, **changes):
    entry = {
        "id": number,
        "image_id": image,
        "category_id": 7,
        "bbox": [4, 5, 6, 6],
        "area": 36,
        "iscrowd": 0,
        "segmentation": uncompressed(square(5, 4, 6)),
    }
    return {**entry, **changes}


POLYGON = [[4.0, 5.0, 10.0, 5.0, 10.0, 11.0, 4.0, 11.0]]
GOOD = {
    "categories": [{"id": 40, "name": "disc"}, {"id": 7, "name": "square"}],
    "images": [
        {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
        {"id": 5, "file_name": "b.png", "height": HEIGHT, "width": WIDTH},
    ],
    "annotations": [
        annotation(1),
        annotation(2, segmentation=compressed(square(5, 4, 6))),
        annotation(3, segmentation=POLYGON, category_id=40),
        annotation(4, iscrowd=1),
    ],
}


def changed(*annotations, **changes):
    content = copy.deepcopy(GOOD)
    content["annotations"] += annotations
    return {**content, **changes}


def test_all_kinds_of_mask_are_read_alike():
    first, second = from_coco(GOOD).images
    masks = [decode(instance.mask) for instance in first.instances]
    for mask in masks:
        assert np.array_equal(mask, square(5, 4, 6))
    assert second.instances == []


def test_polygons_are_rasterised_as_pycocotools_does():
    rng = np.random.default_rng(0)
    for _ in range(20):
        polygons = [
            (rng.random((corners, 2)) * [WIDTH, HEIGHT]).ravel().tolist()
            for corners in rng.integers(3, 8, size=2)
        ]
        wanted = oracle.decode(oracle.merge(oracle.frPyObjects(polygons, HEIGHT, WIDTH)))
        found = from_coco(changed(annotation(9, segmentation=polygons))).images[0].instances[-1]
        assert np.array_equal(decode(found.mask), wanted)


def test_categories_may_have_gaps():
    annotations = from_coco(GOOD)
    assert annotations.classes == ("square", "disc")
    assert [instance.label for instance in annotations.images[0].instances] == [1, 1, 2, 1]
    assert annotations.problems == ()


def test_crowds_are_told_apart():
    assert [instance.crowd for instance in from_coco(GOOD).images[0].instances] == [False, False, False, True]


BAD = {
    "outside": (annotation(9, bbox=[31, 2, 5, 5]), "lies outside of the image's 20x30 pixels"),
    "no area": (annotation(9, bbox=[3, 2, 0, 5]), "has no area"),
    "negative": (annotation(9, bbox=[3, 2, 4, -5]), "has no area"),
    "not numbers": (annotation(9, bbox=[3, 2, float("nan"), 5]), "is not four numbers"),
    "unknown image": (annotation(9, image=77), "there is no image 77"),
    "unknown category": (annotation(9, category_id=8), "there is no category 8"),
    "twice": (annotation(1), "its id stands there twice"),
    "mask of another size": (
        annotation(9, segmentation={"size": [30, 20], "counts": [600]}),
        "its mask is for 30x20 pixels, the image has 20x30",
    ),
    "runs too short": (
        annotation(9, segmentation={"size": [20, 30], "counts": [10, 5]}),
        "do not add up to 20x30 pixels",
    ),
    "compressed runs cut off": (
        annotation(
            9,
            segmentation={
                **compressed(square(5, 4, 6)),
                "counts": compressed(square(5, 4, 6))["counts"][:-2],
            },
        ),
        "do not add up to 20x30 pixels",
    ),
    "two points": (annotation(9, segmentation=[[1.0, 2.0, 3.0, 4.0]]), "has 2 points"),
    "odd polygon": (annotation(9, segmentation=[[1.0, 2.0, 3.0]]), "pairs of numbers"),
    "no box": ({key: value for key, value in annotation(9).items() if key != "bbox"}, "lacks 'bbox'"),
}


@pytest.mark.parametrize(("entry", "reason"), BAD.values(), ids=BAD)
def test_what_cannot_be_used_is_reported_with_its_id_and_left_out(entry, reason):
    found = from_coco(changed(entry))
    (problem,) = found.problems
    assert problem.where == f"annotation {entry['id']}"
    assert reason in problem.what
    assert problem.what.endswith("left out")
    assert found.images == from_coco(GOOD).images


def test_boxes_that_reach_beyond_the_image_are_cut_and_reported():
    found = from_coco(changed(annotation(9, bbox=[25, 15, 10, 10])))
    (problem,) = found.problems
    assert problem.what == "its box [25, 15, 10, 10] reaches beyond the image's 20x30 pixels; cut"
    assert found.images[0].instances[-1].box == (25, 15, 30, 20)


@pytest.mark.parametrize("missing", ["images", "categories", "annotations"])
def test_a_file_in_another_format_is_refused(missing):
    with pytest.raises(UserError, match=f"has a list '{missing}'"):
        from_coco({key: value for key, value in GOOD.items() if key != missing})


def test_category_ids_are_distinct():
    with pytest.raises(UserError, match="Two categories have the id 7"):
        from_coco({**GOOD, "categories": GOOD["categories"] + [{"id": 7, "name": "other"}]})


@pytest.fixture
def folder(tmp_path):
    """A folder in COCO's format with two splits."""

    def write(split="train", content=GOOD):
        (tmp_path / "mine" / "annotations").mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / split).mkdir(exist_ok=True)
        for name in ("a.png", "b.png"):
            pixels = np.random.default_rng(len(name)).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "mine" / split / name)
        path = tmp_path / "mine" / "annotations" / f"instances_{split}.json"
        path.write_text(json.dumps(content))
        return path

    write("val")
    write("train")
    write.root = tmp_path
    return write


def test_images_that_are_missing_or_of_another_size_are_left_out_with_their_annotations(folder, caplog):
    content = changed()
    content["images"][1]["height"] = 21
    content["images"].append({"id": 6, "file_name": "gone.png", "height": 3, "width": 3})
    content["annotations"].append(annotation(9, image=6))
    path = folder("train", content)
    with caplog.at_level(logging.WARNING):
        found = read_annotations(path, path.parents[1] / "train")
    assert [image.id for image in found.images] == [1]
    assert [problem.where for problem in found.problems] == ["image 5 (b.png)", "image 6 (gone.png)"]
    assert "has 20x30 pixels, not 21x30" in found.problems[0].what
    assert "there is no" in found.problems[1].what
    assert str(path) in caplog.text
    assert "image 6 (gone.png)" in caplog.text


def test_problems_may_stop_it(folder):
    path = folder("train", changed(BAD["outside"][0], BAD["unknown category"][0] | {"id": 10}))
    with pytest.raises(UserError, match=r"2 problems: annotation 9: .*; annotation 10: ") as caught:
        read_annotations(path, problems="stop")
    assert caught.value.where == str(path)


def test_a_truncated_file_is_named(folder):
    path = folder()
    path.write_text(path.read_text()[:200])
    with pytest.raises(UserError, match=r"no whole JSON file: .* at line 1, column \d+.*cut off") as caught:
        read_annotations(path)
    assert caught.value.where == str(path)


def test_a_folder_is_a_task(folder):
    task = FolderSettings(folder="mine", short=40, flip=0).build(folder.root)
    assert (task.size("train"), task.size("val"), task.size("test")) == (2, 0, 2)
    batch = task.batch("train", torch.arange(2))
    assert batch.inputs.sizes == ((40, 60), (40, 60))
    assert batch.targets[0]["boxes"].tolist() == [[8, 10, 20, 22]] * 3  # the crowd is not among them
    assert batch.targets[0]["masks"].sum((1, 2)).tolist() == [144] * 3
    assert batch.targets[1]["boxes"].shape == (0, 4)
    assert batch.targets[1]["masks"].shape == (0, 40, 60)


def test_images_without_objects_may_be_left_out(folder):
    assert FolderSettings(folder="mine", empty="drop").build(folder.root).size("train") == 1
    assert FolderSettings(folder="mine", empty="drop").build(folder.root).size("test") == 2


def test_splits_have_the_same_categories(folder):
    folder("val", {**GOOD, "annotations": [], "categories": [{"id": 1, "name": "cat"}]})
    with pytest.raises(UserError, match="different categories: square, disc and cat"):
        FolderSettings(folder="mine").build(folder.root)


def test_a_data_set_that_is_not_there_names_the_command(tmp_path):
    with pytest.raises(UserError, match="regathlon data fetch coco"):
        CocoSettings().build(tmp_path)


def test_a_part_of_coco_is_not_taken_for_coco(folder):
    (folder.root / "mine").rename(folder.root / "coco")
    for split in ("train", "val"):
        (folder.root / "coco" / split).rename(folder.root / "coco" / f"{split}2017")
        path = folder.root / "coco" / "annotations" / f"instances_{split}.json"
        path.rename(path.with_name(f"instances_{split}2017.json"))
    with pytest.raises(UserError, match=r"118287 images .* this file has 2.*detection/folder"):
        CocoSettings().build(folder.root)
    part = FolderSettings(folder="coco", train="train2017", test="val2017").build(folder.root)
    assert part.size("train") == 2


def test_the_scenes_are_read_as_they_are():
    scenes = digit_scenes("val")
    annotations = from_coco(scenes.coco())
    assert annotations.problems == ()
    for record, instances in zip(annotations.images, scenes.instances, strict=True):
        for number, instance in enumerate(record.instances, start=1):
            assert np.array_equal(decode(instance.mask), instances == number)
