"""Classification of large images in folders: ImageNet, and small ones that are kept in memory: Tiny ImageNet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from regathlon_core.errors import UserError, for_the_user
from regathlon_core.rng import SampleDraw
from regathlon_core.task import Batch, Split
from regathlon_data import DataError, require
from regathlon_vision import ops
from regathlon_vision.base import ImageTask
from regathlon_vision.classification.augmentation import from_draw, normal
from regathlon_vision.classification.settings import ImageNetSettings, TinyImageNetSettings
from regathlon_vision.classification.stack import Stack, StackTask
from regathlon_vision.images import (
    ImageFiles,
    Listing,
    Window,
    central_window,
    image_files,
    list_classes,
    random_window,
    read_stack,
)

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_ATTEMPTS = 10


class ImageNetTask(ImageTask):
    """The task that ``ImageNetSettings`` declares; inputs are float32 [B, 3, side, side].

    Training images are random windows of 8 to 100 % of the area, mirrored; with ``colours`` their brightness, contrast and
    saturation change by up to 40 %, and their colours along the data's principal components (Krizhevsky et al. 2012), as in
    GradAug's experiments. Test images are the middle: 7/8 of the shorter side, as 224 of 256.

    Files are decoded on several threads as they are asked for, and kept while memory lasts.

    Args:
        settings: Which resolution, which augmentation.
        data: The data root, with ``imagenet/{train,val}/<class>/<image>``.

    Raises:
        UserError: Folders are missing or empty.
    """

    view_scales: ClassVar[tuple[float, ...]] = (1.0, 6 / 7, 5 / 7, 4 / 7)
    """224, 192, 160 and 128 of 224 pixels."""
    pixel_mean = _MEAN
    pixel_std = _STD

    def __init__(self, settings: ImageNetSettings, data: Path | None = None) -> None:
        super().__init__(settings)
        self._side, self._colours = settings.side, settings.colours
        root = _root(settings.dataset, data) / "imagenet"
        train = list_classes(root / "train")
        listings: dict[Split, Listing] = {"train": train, "test": list_classes(root / "val", train.classes)}
        self._classes = train.classes
        self._files = {split: ImageFiles(listing.paths) for split, listing in listings.items()}
        self._labels = {split: listing.labels for split, listing in listings.items()}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes: those of their folders."""
        return self._classes

    @property
    def in_channels(self) -> int:
        """Three colours."""
        return 3

    def size(self, split: Split) -> int:
        """Return the number of images; the validation images of ImageNet are those to test on."""
        return len(self._labels[split]) if split in self._labels else 0

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        """Return images, cropped and changed at random where there is a draw."""
        labels = self._labels[split][index]
        if draw is None:
            pixels = self._cut(
                split, index, lambda at, height, width: central_window(height, width, share=7 / 8)
            )
            return Batch(self.normalized(pixels), labels, index=index)
        uniform = from_draw(draw, index)
        numbers = uniform(4 * _ATTEMPTS, "window").tolist()
        pixels = self._cut(split, index, lambda at, height, width: random_window(height, width, numbers[at]))
        pixels = ops.random_flip(pixels, uniform(1, "flip")[:, 0])
        if self._colours:
            pixels = ops.jitter_colours(pixels, 0.6 + 0.8 * uniform(3, "colours"))
            pixels = ops.light(pixels, 0.1 * normal(uniform, 3, "light"))
        return Batch(self.normalized(pixels), labels, index=index)

    def _cut(self, split: Split, index: Tensor, window: Callable[[int, int, int], Window]) -> Tensor:
        return self._files[split].windows(index, (self._side, self._side), window) / 255


class TinyImageNetTask(StackTask):
    """The task that ``TinyImageNetSettings`` declares; inputs are float32 [B, 3, 64, 64].

    ``tiny-imagenet-200/train/<class>/images/<image>``, and validation images, which serve to test, either in
    ``val/<class>/...`` or as they come, in ``val/images`` with ``val/val_annotations.txt``.

    Args:
        settings: The declaration.
        data: The data root; see ``regathlon_data.data_root``.

    Raises:
        UserError: Folders or files are missing or damaged.
    """

    def __init__(self, settings: TinyImageNetSettings, data: Path | None = None) -> None:
        root = _root(settings.dataset, data) / "tiny-imagenet-200"
        train = _classes_with_images(root / "train")
        test = _annotated(root / "val", train.classes)
        stacks: dict[Split, Stack] = {
            "train": Stack(read_stack(train.paths), train.labels),
            "test": Stack(read_stack(test.paths), test.labels),
        }
        super().__init__(
            settings, train.classes, stacks, mean=(0.4802, 0.4481, 0.3975), std=(0.2770, 0.2691, 0.2821)
        )


def _root(dataset: str, data: Path | None) -> Path:
    with for_the_user(DataError):
        return require(dataset, data)


def _classes_with_images(folder: Path) -> Listing:
    """List images in ``<class>/images``, or directly in ``<class>``."""
    if not folder.is_dir():
        raise UserError("There is no such folder.", where=str(folder))
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    if not names:
        raise UserError("There is no folder of a class in here.", where=str(folder))
    places = [folder / name / "images" for name in names]
    groups = [image_files(place if place.is_dir() else place.parent) for place in places]
    labels = torch.cat([torch.full((len(group),), label) for label, group in enumerate(groups)])
    return Listing(tuple(path for group in groups for path in group), labels, names)


def _annotated(folder: Path, classes: tuple[str, ...]) -> Listing:
    notes = folder / "val_annotations.txt"
    if not notes.is_file():
        return list_classes(folder, classes)
    number = {name: label for label, name in enumerate(classes)}
    try:
        pairs = [line.split()[:2] for line in notes.read_text(encoding="utf-8").splitlines() if line.strip()]
        labels = torch.tensor([number[name] for _, name in pairs])
    except (KeyError, ValueError, UnicodeDecodeError) as error:
        raise UserError(f"A line is no image with one of the classes: {error}", where=str(notes)) from error
    return Listing(tuple(folder / "images" / name for name, _ in pairs), labels, classes)
