"""Any folder of images and masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regathlon_core.errors import UserError
from regathlon_core.task import Split
from regathlon_data import data_root
from regathlon_vision.images import ImageFiles, image_files
from regathlon_vision.segmentation.augmentation import Augmentation
from regathlon_vision.segmentation.pairs import Pairs, PairTask
from regathlon_vision.segmentation.settings import PairFolderSettings


class PairFolderTask(PairTask):
    """The task that ``PairFolderSettings`` declares.

    Args:
        settings: Which folder, and what its masks say.
        data: The data root; see ``regathlon_data.data_root``.

    Raises:
        UserError: The folder, its images or their masks are not there.
    """

    def __init__(self, settings: PairFolderSettings, data: Path | None = None) -> None:
        if not settings.folder:
            raise UserError(f"{settings.name} needs the name of a folder: {settings.name}(folder=my_images).")
        root = data_root(data) / settings.folder
        splits: dict[Split, Pairs] = {
            split: read_pairs(root / split, foreground=settings.foreground)
            for split in ("train", "val", "test")
            if split == "train" or (root / split).is_dir()
        }
        if len(splits) == 1:
            raise UserError("There is neither a folder test nor a folder val beside train.", where=str(root))
        classes = ("background", *(str(number) for number in range(1, settings.classes)))
        smallest, largest = settings.zoom
        augmentation = Augmentation(
            rotation=settings.rotation,
            zoom=(smallest, largest),
            mirror=settings.mirror,
            flip=settings.flip,
        )
        super().__init__(
            settings,
            splits,
            classes,
            augmentation=augmentation,
            crop=settings.size,
            frame=settings.size,
            shrink=True,
        )


def read_pairs(folder: Path, *, foreground: bool) -> Pairs:
    """Return the samples of a folder that holds ``images`` and ``masks`` of the same names, endings aside.

    Args:
        folder: The folder.
        foreground: Whether every mask value but 0 means class 1.

    Raises:
        UserError: A folder is not there or empty, or an image has no mask.
    """
    images = image_files(folder / "images")
    return Pairs(ImageFiles(images), mask_reader(images, folder / "masks", foreground=foreground))


def mask_reader(
    images: tuple[Path, ...], folder: Path, *, foreground: bool
) -> Callable[[int], NDArray[np.uint8]]:
    """Return what reads the mask of an image by its position.

    Raises:
        UserError: The folder is not there or empty, or an image has no mask.
    """
    by_name = {path.stem: path for path in image_files(folder)}
    for image in images:
        if image.stem not in by_name:
            raise UserError(f"It has no mask {image.stem}.png in {folder}.", where=str(image))
    files = ImageFiles([by_name[image.stem] for image in images], mode="P")

    def read(number: int) -> NDArray[np.uint8]:
        mask = files.pixels(number)[:, :, 0]
        return (mask > 0).astype(np.uint8) if foreground else mask

    return read
