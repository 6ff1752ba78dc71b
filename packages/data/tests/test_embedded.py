"""Digits, scenes and domains: what is promised of them holds."""

import itertools

import numpy as np
import pytest

from regathlon_data import DOMAINS, DataError, digit_domain, digit_scenes, load_digits, manifest, split_digits
from regathlon_data.scenes import IGNORED, run_lengths
from regathlon_data.textures import resize, warp

SPLITS = ("train", "val", "test")


def test_digits_cannot_be_changed():
    digits = load_digits()
    with pytest.raises(ValueError, match="read-only"):
        digits.images[0] = 0


def test_every_digit_is_in_one_split_and_classes_are_cut_in_the_order_of_the_file():
    parts = split_digits()
    assert np.array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(1797))
    labels = load_digits().labels
    for label in range(10):
        train, val, test = (part[labels[part] == label] for part in parts.values())
        assert train.max() < val.min()
        assert val.max() < test.min()


# ---- scenes ------------------------------------------------------------------------------------------------


def test_scenes_are_as_their_manifest_says():
    described = manifest("digit-scenes")
    for split, count in described.splits.items():
        scenes = digit_scenes(split)
        height, width = described.statistics["height"], described.statistics["width"]
        assert scenes.images.shape == (count, height, width, 3)
        assert scenes.masks.shape == scenes.instances.shape == (count, height, width)
        labels = set(np.unique(scenes.masks).tolist())
        assert labels == {*range(described.statistics["classes"]), IGNORED}


def test_scenes_of_different_splits_share_no_digit():
    shown = {split: set(itertools.chain(*digit_scenes(split).digits)) for split in SPLITS}
    for split, own in shown.items():
        assert own <= set(split_digits()[split].tolist())
    assert not shown["train"] & shown["test"]


def test_scenes_are_drawn_again_alike_and_depend_on_their_number_alone():
    few, many = digit_scenes("val", count=3), digit_scenes("val", count=5)
    assert few is not many
    assert np.array_equal(few.images, many.images[:3])
    assert np.array_equal(few.masks, many.masks[:3])
    assert not np.array_equal(few.images, digit_scenes("test", count=3).images)


def test_the_labels_of_instances_are_those_of_the_digits():
    scenes = digit_scenes("val")
    labels = load_digits().labels
    for mask, instances, digits in zip(scenes.masks, scenes.instances, scenes.digits, strict=True):
        assert 2 <= len(digits) <= 8
        for number, digit in enumerate(digits, start=1):
            own = mask[instances == number]
            assert own.size > 0
            assert set(own.tolist()) <= {labels[digit] + 1, IGNORED}  # another's faded edge may lie over it
        assert set(mask[instances == 0].tolist()) <= {0, IGNORED}


def test_digits_stand_out_from_their_canvas():
    scenes = digit_scenes("val")
    grey = scenes.images.mean(axis=-1)
    on, off = grey[(scenes.masks > 0) & (scenes.masks < IGNORED)], grey[scenes.masks == 0]
    assert on.mean() > off.mean() + 50


def decode(segmentation):
    """COCO's uncompressed run lengths -> mask, written apart from the encoder."""
    height, width = segmentation["size"]
    flat, value = [], False
    for run in segmentation["counts"]:
        flat += [value] * run
        value = not value
    return np.array(flat).reshape(width, height).T


def test_coco_annotations_describe_the_instances():
    scenes = digit_scenes("val", count=10)
    coco = scenes.coco()
    names = {category["id"]: category["name"] for category in coco["categories"]}
    assert len(coco["annotations"]) == sum(len(digits) for digits in scenes.digits)
    assert [annotation["id"] for annotation in coco["annotations"]] == list(
        range(1, len(coco["annotations"]) + 1)
    )
    numbers = {image: itertools.count(1) for image in range(10)}
    for annotation in coco["annotations"]:
        image, number = annotation["image_id"], next(numbers[annotation["image_id"]])
        mask = decode(annotation["segmentation"])
        assert np.array_equal(mask, scenes.instances[image] == number)
        assert annotation["area"] == mask.sum()
        rows, columns = np.nonzero(mask)
        left, top, width, height = annotation["bbox"]
        assert (left, top) == (columns.min(), rows.min())
        assert (left + width - 1, top + height - 1) == (columns.max(), rows.max())
        digit = scenes.digits[image][number - 1]
        assert names[annotation["category_id"]] == str(load_digits().labels[digit])
        assert annotation["iscrowd"] == 0


@pytest.mark.parametrize("mask", [np.zeros((3, 2), bool), np.ones((3, 2), bool), np.eye(4, dtype=bool)])
def test_run_lengths_are_decoded_to_the_mask(mask):
    assert np.array_equal(decode({"size": list(mask.shape), "counts": run_lengths(mask)}), mask)


def test_scenes_of_another_size():
    scenes = digit_scenes("val", count=2, size=61)
    assert scenes.images.shape == (2, 61, 61, 3)


def test_wrong_scenes_are_refused():
    with pytest.raises(DataError, match=r"no split 'tset'.*Did you mean 'test'"):
        digit_scenes("tset")
    with pytest.raises(DataError, match="at least 24"):
        digit_scenes("val", size=10)


# ---- domains -----------------------------------------------------------------------------------------------


def everything(domain):
    return [digit_domain(domain, split) for split in ("train", "val")]


def test_every_digit_has_one_look_and_one_split():
    digits = np.concatenate([part.digits for domain in DOMAINS for part in everything(domain)])
    assert np.array_equal(np.sort(digits), np.arange(1797))
    described = manifest("digit-domains").statistics
    assert described["samples"] == len(digits)
    assert described["domains"] == len(DOMAINS)
    assert digit_domain("paper").images.shape[1:] == (
        described["height"],
        described["width"],
        described["channels"],
    )


def test_domains_hold_all_classes_alike():
    counts = np.array(
        [np.bincount(np.concatenate([part.labels for part in everything(domain)])) for domain in DOMAINS]
    )
    assert np.ptp(counts, axis=0).max() <= 1
    for domain in DOMAINS:
        train, val = everything(domain)
        assert np.array_equal(train.labels, load_digits().labels[train.digits])
        share = np.bincount(val.labels) / np.bincount(np.concatenate([train.labels, val.labels]))
        assert np.abs(share - 0.2).max() < 0.02


def test_looks_are_told_apart_by_their_colours_alone():
    """The nearest image in a few statistics of colour, which say little of the digit, has the same look."""

    def statistics(part):
        images = part.images.astype(float)
        pixels = images.reshape(len(images), -1, 3)
        edges = np.abs(np.diff(images, axis=2)).mean(axis=(1, 2))
        return np.hstack([pixels.mean(1), pixels.std(1), pixels.min(1), pixels.max(1), edges])

    train = np.concatenate([statistics(digit_domain(domain)) for domain in DOMAINS])
    looks = np.repeat(np.arange(4), [len(digit_domain(domain).labels) for domain in DOMAINS])
    digits = np.concatenate([digit_domain(domain).labels for domain in DOMAINS])
    for number, domain in enumerate(DOMAINS):
        val = digit_domain(domain, "val")
        distance = (((statistics(val)[:, None] - train) / train.std(axis=0)) ** 2).sum(-1)
        nearest = distance.argmin(axis=1)
        assert (looks[nearest] == number).mean() > 0.85
        assert (digits[nearest] == val.labels).mean() < 0.5


def test_wrong_domains_are_refused():
    with pytest.raises(DataError, match=r"no domain 'papr'.*Did you mean 'paper'"):
        digit_domain("papr")
    with pytest.raises(DataError, match="no split 'test'"):
        digit_domain("paper", "test")


# ---- textures ----------------------------------------------------------------------------------------------


def test_resizing_keeps_linear_ramps_and_channels():
    ramp = np.arange(8, dtype=np.float32)[:, None, None] * np.ones((8, 6, 3), np.float32)
    larger = resize(ramp, 16, 9)
    assert larger.shape == (16, 9, 3)
    inner = larger[1:-1, 0, 0]
    assert np.allclose(np.diff(inner), 0.5)
    assert np.allclose(larger, larger[:, :1, :1])


def test_warping_by_the_identity_changes_nothing():
    image = np.random.default_rng(0).random((5, 7), dtype=np.float32)
    assert np.allclose(warp(image, np.eye(2)), image)
    transposed = warp(image[:, :5], np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert np.allclose(transposed, image[:, :5].T)
