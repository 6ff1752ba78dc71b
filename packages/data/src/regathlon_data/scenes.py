"""Scenes of handwritten digits: pixel labels for segmentation, COCO annotations for detection."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regathlon_data.digits import load_digits, split_digits
from regathlon_data.errors import DataError, did_you_mean
from regathlon_data.textures import Float, resize, smooth_field

COUNTS = {"train": 256, "val": 64, "test": 128}
"""Scenes of each split."""
IGNORED = 255
"""Label of pixels on the faded edge of a stroke, which belong to neither side."""

_INK, _EDGE = 0.4, 0.15  # least share of ink of a digit's own pixel, and of an ignored one
_OVERLAP = 0.1  # largest share of a digit's box that a digit placed before it may cover
_TRIES = 30


@dataclass(frozen=True)
class Scenes:
    """Images with several handwritten digits each, read-only.

    Attributes:
        images: uint8 [N, H, W, 3].
        masks: uint8 [N, H, W]: 0 background, 1 to 10 the digits 0 to 9, 255 not to be counted.
        instances: uint8 [N, H, W]: 0 for none, k for the visible pixels of a scene's k-th digit.
        digits: For each scene the indices of its digits in ``load_digits``, in the order of ``instances``.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    instances: NDArray[np.uint8]
    digits: tuple[tuple[int, ...], ...]

    def coco(self) -> dict[str, Any]:
        """Return the annotations as a COCO detection file has them.

        Every digit has ``bbox`` [x, y, width, height] in pixels, ``area`` and ``segmentation`` as
        uncompressed run lengths (column by column, beginning with the background) of its visible pixels.
        Category ids are 1 to 10, image ids count from 0, annotation ids from 1.

        Example:
            >>> coco = digit_scenes("val").coco()
            >>> len(coco["images"]), sorted(coco["annotations"][0])
            (64, ['area', 'bbox', 'category_id', 'id', 'image_id', 'iscrowd', 'segmentation'])
        """
        labels = load_digits().labels
        height, width = self.masks.shape[1:]
        annotations: list[dict[str, Any]] = []
        for image, (scene, digits) in enumerate(zip(self.instances, self.digits, strict=True)):
            for number, digit in enumerate(digits, start=1):
                mask = scene == number
                rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
                left, top = int(columns[0]), int(rows[0])
                box = [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image,
                        "category_id": int(labels[digit]) + 1,
                        "bbox": [float(side) for side in box],
                        "area": float(mask.sum()),
                        "segmentation": {"size": [height, width], "counts": run_lengths(mask)},
                        "iscrowd": 0,
                    }
                )
        return {
            "images": [
                {"id": image, "file_name": f"{image:06d}.png", "height": height, "width": width}
                for image in range(len(self.images))
            ],
            "annotations": annotations,
            "categories": [{"id": label + 1, "name": str(label)} for label in range(10)],
        }


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Return COCO's uncompressed run lengths of a mask [H, W]: column by column, beginning with False.

    Example:
        >>> run_lengths(np.array([[False, True], [False, True]]))
        [2, 2]
        >>> run_lengths(np.array([[True, True], [False, True]]))
        [0, 1, 1, 2]
    """
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs


@functools.cache
def digit_scenes(split: str = "train", *, count: int | None = None, size: int = 32) -> Scenes:
    """Return scenes of up to eight digits, 9 to 12 pixels high at size 32, on a smooth coloured canvas.

    The digits of a split's scenes are that split's (``split_digits``), so no digit is seen in two splits. A
    scene depends on its number alone: the first scenes of a larger ``count`` are the same.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
        count: Number of scenes N; by default 256, 64, 128.
        size: Height and width in pixels, at least 24.

    Raises:
        DataError: There is no such split, or the scenes would be too small.

    Example:
        >>> scenes = digit_scenes("test")
        >>> scenes.images.shape, scenes.masks.shape, scenes.images.dtype
        ((128, 32, 32, 3), (128, 32, 32), dtype('uint8'))
    """
    if split not in COUNTS:
        raise DataError(f"There is no split {split!r} of the digit scenes. {did_you_mean(split, COUNTS)}")
    if size < 24:
        raise DataError(
            f"Digits are not to be told apart in scenes of {size} pixels; size must be at least 24."
        )
    number = COUNTS[split] if count is None else count
    pool = split_digits()[split]
    stream = list(COUNTS).index(split)
    drawn = [_scene(np.random.default_rng([stream, scene]), pool, size) for scene in range(number)]
    shape = (number, size, size)
    images, masks, instances = (
        np.array([scene[part] for scene in drawn], dtype=np.uint8).reshape(*shape, *channels)
        for part, channels in enumerate([(3,), (), ()])
    )
    for array in (images, masks, instances):
        array.flags.writeable = False
    return Scenes(images, masks, instances, tuple(scene[3] for scene in drawn))


def _scene(
    rng: np.random.Generator, pool: NDArray[np.int64], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], tuple[int, ...]]:
    digits = load_digits()
    image = _canvas(rng, size)
    mask = np.zeros((size, size), np.uint8)
    instances = np.zeros((size, size), np.uint8)
    boxes: list[tuple[int, int, int]] = []
    shown: list[int] = []
    for digit in rng.choice(pool, size=rng.integers(5, 9), replace=False).tolist():
        box = _place(rng, size, boxes)
        if box is None:
            continue
        top, left, side = box
        ink = resize(digits.images[digit].astype(np.float32) / 16, side, side)
        window = (slice(top, top + side), slice(left, left + side))
        colour = rng.uniform(0.65, 1.0, 3).astype(np.float32)
        image[window] += ink[:, :, None] * (colour - image[window])
        boxes.append(box)
        shown.append(digit)
        own = ink > _INK
        mask[window][(ink > _EDGE) & ~own] = IGNORED
        mask[window][own] = digits.labels[digit] + 1
        instances[window][own] = len(shown)
    noisy = image + rng.normal(0, 0.03, image.shape)
    return (np.clip(noisy, 0, 1) * 255).round().astype(np.uint8), mask, instances, tuple(shown)


def _canvas(rng: np.random.Generator, size: int) -> Float:
    """Two layers of smooth colour, darker than any ink: float32 [size, size, 3]."""
    coarse, fine = (smooth_field(rng, size, size, 3, cells) for cells in (3, size // 4))
    return np.asarray(0.05 + 0.35 * coarse + 0.15 * fine, dtype=np.float32)


def _place(
    rng: np.random.Generator, size: int, boxes: list[tuple[int, int, int]]
) -> tuple[int, int, int] | None:
    """Draw (top, left, side) of a box that hardly overlaps the others; None where there is no room."""
    for _ in range(_TRIES):
        side = int(rng.integers(round(0.28 * size), round(0.38 * size) + 1))
        top, left = rng.integers(0, size - side + 1, size=2).tolist()
        if all(_common((top, left, side), box) <= _OVERLAP * min(side, box[2]) ** 2 for box in boxes):
            return top, left, side
    return None


def _common(a: tuple[int, int, int], b: tuple[int, int, int]) -> int:
    """Area of the intersection of two square boxes."""
    high, wide = (min(a[i] + a[2], b[i] + b[2]) - max(a[i], b[i]) for i in range(2))
    return max(0, high) * max(0, wide)
