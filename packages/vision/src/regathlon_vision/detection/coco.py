"""Reading and checking files in COCO's detection format."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from faster_coco_eval.core import mask as rle  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import Image

from regathlon_core.errors import UserError

logger = logging.getLogger(__name__)

_SHOWN = 20
_SLACK = 1.0  # pixels that a box may reach beyond its image: coordinates are rounded
RLE = dict[str, Any]
"""A mask as compressed run lengths: ``{"size": [H, W], "counts": bytes}``."""


@dataclass(frozen=True)
class Problem:
    """Something in a file that cannot be used as it is.

    Attributes:
        where: ``"annotation 17"`` or ``"image 3"``.
        what: What is wrong, and what is done about it.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Instance:
    """An object in an image.

    Attributes:
        record: The annotation as it stands in the file.
        label: 1 to K, in the order of the categories' ids; 0 is the background.
        box: Left, top, right, bottom in pixels, within the image.
        mask: Its pixels, where the file gives them.
        crowd: Whether it is a crowd: not trained on, and ignored in evaluation.
    """

    record: Mapping[str, Any]
    label: int
    box: tuple[float, float, float, float]
    mask: RLE | None
    crowd: bool


@dataclass(frozen=True)
class ImageRecord:
    """An image with its objects.

    Attributes:
        id: The file's number for it.
        file: Name of the image file, relative to the folder of images.
        height: In pixels.
        width: In pixels.
        instances: Its objects.
    """

    id: int
    file: str
    height: int
    width: int
    instances: list[Instance] = field(default_factory=list)

    def truth(self) -> dict[str, Any]:
        """Return it as an entry of ``images``."""
        return {"id": self.id, "file_name": self.file, "height": self.height, "width": self.width}


@dataclass(frozen=True)
class Annotations:
    """What a file says, as far as it can be used.

    Attributes:
        images: In the file's order.
        categories: Entries of the file, by rising id; label k is entry k-1.
        problems: What could not be used as it is.
        listed: Number of images in the file, whether they can be used or not.
    """

    images: tuple[ImageRecord, ...]
    categories: tuple[Mapping[str, Any], ...]
    problems: tuple[Problem, ...] = ()
    listed: int = 0

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the categories; those that share a name get their id behind it."""
        names = [str(category.get("name", category["id"])) for category in self.categories]
        return tuple(
            name if names.count(name) == 1 else f"{name} ({category['id']})"
            for name, category in zip(names, self.categories, strict=True)
        )


def read_annotations(
    path: Path, images: Path | None = None, *, problems: Literal["skip", "stop"] = "skip"
) -> Annotations:
    """Read a file in COCO's format: polygons, compressed and uncompressed run lengths, crowds, empty images.

    What cannot be used is reported with file and id, and left out: images that are missing, unreadable or of
    another size than the file says; annotations of unknown images or categories, boxes without area or outside
    of their image, masks of another size, polygons of fewer than three points, ids that occur twice. Boxes that
    reach beyond their image by more than a pixel are reported and cut. Category ids may have gaps.

    Args:
        path: The JSON file.
        images: Folder of the image files, which are then looked for; None not to.
        problems: ``"skip"`` what cannot be used, with a warning, or ``"stop"``.

    Raises:
        UserError: The file is no JSON or not in COCO's format; or there are problems and they are to stop it.
    """
    content = _json(path)
    found = _parse(content, images, lambda text: UserError(text, where=str(path)))
    if found.problems:
        shown = [str(problem) for problem in found.problems[:_SHOWN]]
        if len(found.problems) > _SHOWN:
            shown.append(f"and {len(found.problems) - _SHOWN} more")
        text = f"{len(found.problems)} problems: " + "; ".join(shown)
        if problems == "stop":
            raise UserError(
                f"{text}. Mend the file, or leave out what cannot be used with problems='skip'.",
                where=str(path),
            )
        logger.warning("%s: %s", path, text)
    return found


def from_coco(content: Mapping[str, Any]) -> Annotations:
    """Return the annotations that a mapping in COCO's format holds.

    Raises:
        UserError: It is not in COCO's format.

    Example:
        >>> from regathlon_data import digit_scenes
        >>> annotations = from_coco(digit_scenes("val").coco())
        >>> len(annotations.images), annotations.classes[:3], annotations.problems
        (64, ('0', '1', '2'), ())
    """
    return _parse(content, None, UserError)


def decode(mask: RLE) -> NDArray[np.uint8]:
    """Return a mask [H, W] of zeros and ones.

    Example:
        >>> int(decode(rle.frPyObjects({"size": [2, 3], "counts": [2, 4]}, 2, 3)).sum())
        4
    """
    pixels: NDArray[np.uint8] = rle.decode(mask)
    return pixels


def _json(path: Path) -> Any:
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file)
    except json.JSONDecodeError as error:
        raise UserError(
            f"This is no whole JSON file: {error.msg} at line {error.lineno}, column {error.colno}. "
            f"It may have been cut off while it was copied; get it again.",
            where=str(path),
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"This is no JSON file: byte {error.start} is not UTF-8 text.", where=str(path)
        ) from error
    except OSError as error:
        raise UserError(f"The annotations cannot be read: {error.strerror}.", where=str(path)) from error


def _parse(content: Any, folder: Path | None, error: Callable[[str], UserError]) -> Annotations:
    problems: list[Problem] = []
    entries = {}
    for key in ("images", "categories", "annotations"):
        value = content.get(key) if isinstance(content, Mapping) else None
        if not isinstance(value, list):
            raise error(f"A file in COCO's format has a list {key!r}; this one has not.")
        entries[key] = value
    categories = _categories(entries["categories"], error)
    labels = {category["id"]: label for label, category in enumerate(categories, start=1)}
    records: dict[Any, ImageRecord] = {}
    left_out: set[Any] = set()
    for number, image in enumerate(entries["images"]):
        record, fault = _image(image, folder, records)
        if fault is not None:
            problems.append(
                Problem(_named("image", image, number), f"{fault}; left out with its annotations")
            )
            left_out.add(image.get("id") if isinstance(image, Mapping) else None)
        if record is not None:
            records[record.id] = record
    left_out -= records.keys()
    seen: set[Any] = set()
    for number, annotation in enumerate(entries["annotations"]):
        if isinstance(annotation, Mapping) and annotation.get("image_id") in left_out:
            continue
        instance, fault = _instance(annotation, records, labels, seen)
        if fault is not None:
            problems.append(Problem(_named("annotation", annotation, number), fault))
        if instance is not None:
            records[annotation["image_id"]].instances.append(instance)
    return Annotations(tuple(records.values()), categories, tuple(problems), len(entries["images"]))


def _named(kind: str, entry: Any, number: int) -> str:
    known = isinstance(entry, Mapping) and "id" in entry
    name = f"{kind} {entry['id']}" if known else f"{kind} number {number + 1} of the list"
    file = entry.get("file_name") if isinstance(entry, Mapping) else None
    return f"{name} ({file})" if file else name


def _categories(entries: list[Any], error: Callable[[str], UserError]) -> tuple[Mapping[str, Any], ...]:
    if not entries:
        raise error("There are no categories.")
    for entry in entries:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("id"), int):
            raise error(f"A category has an id, a whole number; this one has not: {entry}.")
    ids = [entry["id"] for entry in entries]
    for value in ids:
        if ids.count(value) > 1:
            raise error(f"Two categories have the id {value}.")
    return tuple(sorted(entries, key=lambda entry: int(entry["id"])))


def _image(
    entry: Any, folder: Path | None, known: Mapping[Any, ImageRecord]
) -> tuple[ImageRecord | None, str | None]:
    if not isinstance(entry, Mapping):
        return None, "it is no mapping"
    number, name, sides = entry.get("id"), entry.get("file_name"), (entry.get("height"), entry.get("width"))
    if not isinstance(number, int) or not isinstance(name, str):
        return None, "it lacks a whole number 'id' or a 'file_name'"
    if not all(isinstance(side, int) and side > 0 for side in sides):
        return None, f"its height and width are {sides[0]} and {sides[1]}"
    if number in known:
        return None, "its id stands there twice"
    record = ImageRecord(number, name, *sides)  # type: ignore[arg-type]
    if folder is None:
        return record, None
    try:
        with Image.open(folder / name) as image:  # reads the header only
            found = image.size[::-1]
    except FileNotFoundError:
        return None, f"there is no {folder / name}"
    except OSError as error:
        return None, f"{folder / name} cannot be read ({error})"
    if found != (record.height, record.width):
        return None, f"{folder / name} has {found[0]}x{found[1]} pixels, not {record.height}x{record.width}"
    return record, None


def _instance(
    entry: Any, images: Mapping[Any, ImageRecord], labels: Mapping[Any, int], seen: set[Any]
) -> tuple[Instance | None, str | None]:
    if not isinstance(entry, Mapping):
        return None, "it is no mapping; left out"
    for key in ("id", "image_id", "category_id", "bbox"):
        if key not in entry:
            return None, f"it lacks {key!r}; left out"
    if entry["id"] in seen:
        return None, "its id stands there twice; left out"
    seen.add(entry["id"])
    image = images.get(entry["image_id"])
    if image is None:
        return None, f"there is no image {entry['image_id']}; left out"
    label = labels.get(entry["category_id"])
    if label is None:
        return None, f"there is no category {entry['category_id']}; left out"
    box, fault = _box(entry["bbox"], image)
    if box is None:
        return None, fault
    try:
        mask = _mask(entry.get("segmentation"), image)
    except _Unusable as error:
        return None, f"{error}; left out"
    return Instance(entry, label, box, mask, bool(entry.get("iscrowd", 0))), fault


def _box(box: Any, image: ImageRecord) -> tuple[tuple[float, float, float, float] | None, str | None]:
    """Return left, top, right, bottom within the image, and what is wrong."""
    numbers = isinstance(box, list) and len(box) == 4 and all(_finite(side) for side in box)
    if not numbers:
        return None, f"its box {box} is not four numbers; left out"
    left, top, width, height = (float(side) for side in box)
    shown = f"its box [{', '.join(f'{side:g}' for side in box)}]"
    if width <= 0 or height <= 0:
        return None, f"{shown} has no area; left out"
    right, bottom = left + width, top + height
    size = f"the image's {image.height}x{image.width} pixels"
    inside = max(left, 0.0), max(top, 0.0), min(right, image.width), min(bottom, image.height)
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        return None, f"{shown} lies outside of {size}; left out"
    beyond = max(-left, -top, right - image.width, bottom - image.height)
    return inside, f"{shown} reaches beyond {size}; cut" if beyond > _SLACK else None


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


class _Unusable(ValueError):
    """A mask that cannot be used."""


def _mask(segmentation: Any, image: ImageRecord) -> RLE | None:
    """Return a mask as compressed run lengths; None where there is none."""
    size = [image.height, image.width]
    if isinstance(segmentation, Mapping):
        if list(segmentation.get("size", ())) != size:
            found = "x".join(map(str, segmentation.get("size", ())))
            raise _Unusable(f"its mask is for {found or 'no'} pixels, the image has {size[0]}x{size[1]}")
        counts = segmentation.get("counts")
        if isinstance(counts, list):
            if not all(isinstance(run, int) and run >= 0 for run in counts) or sum(counts) != math.prod(size):
                raise _Unusable(f"the run lengths of its mask do not add up to {size[0]}x{size[1]} pixels")
            compressed: RLE = rle.frPyObjects({"size": size, "counts": counts}, *size)
            return compressed
        if isinstance(counts, str | bytes):
            return _checked({"size": size, "counts": counts.encode() if isinstance(counts, str) else counts})
        raise _Unusable("its mask has no 'counts'")
    if segmentation in (None, []):
        return None
    polygons = list(_polygons(segmentation))
    merged: RLE = rle.merge(rle.frPyObjects(polygons, *size))
    return merged


def _polygons(segmentation: Any) -> Iterator[list[float]]:
    if not isinstance(segmentation, list):
        raise _Unusable(
            f"its segmentation is a {type(segmentation).__name__}, neither polygons nor run lengths"
        )
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) % 2 or not all(map(_finite, polygon)):
            raise _Unusable("a polygon of its mask is not a list of pairs of numbers")
        if len(polygon) < 6:
            raise _Unusable(f"a polygon of its mask has {len(polygon) // 2} points")
        yield [float(value) for value in polygon]


def _checked(mask: RLE) -> RLE:
    # The decoder trusts what it is given, so the runs are read here first.
    runs: list[int] = []
    value = shift = 0
    for byte in mask["counts"]:
        part = byte - 48
        value |= (part & 0x1F) << shift
        shift += 5
        if part & 0x20:
            continue
        if part & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    height, width = mask["size"]
    if shift or any(run < 0 for run in runs) or sum(runs) != height * width:
        raise _Unusable(f"the run lengths of its mask do not add up to {height}x{width} pixels")
    return mask
