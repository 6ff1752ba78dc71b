"""MoNuSeg: nuclei in stained tissue."""

from __future__ import annotations

import functools
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from regathlon_core.errors import UserError, for_the_user
from regathlon_core.task import Split
from regathlon_data import DataError, require
from regathlon_vision.images import ImageFiles, image_files
from regathlon_vision.segmentation.augmentation import Augmentation
from regathlon_vision.segmentation.folder import mask_reader
from regathlon_vision.segmentation.pairs import Corner, Pairs, PairTask
from regathlon_vision.segmentation.settings import MoNuSegSettings


class MoNuSegTask(PairTask):
    """The task that ``MoNuSegSettings`` declares; label 1 is a nucleus.

    From every image the squares at its four corners are cut, to train and to test (Xiang et al., BiO-Net, 2020, and
    after it arXiv:2106.01805, section 4.2); images as small as the square are one sample. Training samples are turned by up
    to 15 degrees, shifted by up to 5 %, sheared, magnified by up to a fifth, and mirrored both ways, as there; how far they
    are sheared is not printed, here up to 5 degrees.

    Args:
        settings: The declaration.
        data: The data root; see ``regathlon_data.data_root``.

    Raises:
        UserError: The data is not there, or an image is smaller than the squares.
    """

    def __init__(self, settings: MoNuSegSettings, data: Path | None = None) -> None:
        with for_the_user(DataError):
            root = require(settings.dataset, data) / "MoNuSeg"
        splits: dict[Split, Pairs] = {
            split: _pairs(root / split, settings.crop) for split in ("train", "test")
        }
        augmentation = Augmentation(
            rotation=15.0, shift=0.05, shear=5.0, zoom=(1.0, 1.2), mirror=True, flip=True
        )
        super().__init__(
            settings,
            splits,
            ("background", "nucleus"),
            augmentation=augmentation,
            crop=settings.crop,
            frame=settings.crop,
        )


def _pairs(folder: Path, side: int) -> Pairs:
    images = ImageFiles(image_files(folder / "images"))
    corners: list[Corner] = []
    for number, path in enumerate(images.paths):
        with Image.open(path) as image:  # the header alone
            width, height = image.size
        if min(width, height) < side:
            raise UserError(
                f"It is {height} by {width} pixels, smaller than squares of {side}; say crop={min(width, height)}, or "
                f"source=tiles for tiles.",
                where=str(path),
            )
        corners += [
            Corner(number, top, left)
            for top in sorted({0, height - side})
            for left in sorted({0, width - side})
        ]
    outlines = folder / "annotations"
    mask = (
        _outline_reader(images.paths, outlines)
        if outlines.is_dir()
        else mask_reader(images.paths, folder / "masks", foreground=True)
    )
    return Pairs(images, mask, tuple(corners), side)


def _outline_reader(images: tuple[Path, ...], folder: Path) -> Callable[[int], NDArray[np.uint8]]:
    files = [folder / f"{image.stem}.xml" for image in images]
    for image, file in zip(images, files, strict=True):
        if not file.exists():
            raise UserError(f"It has no outlines {file}.", where=str(image))

    @functools.cache
    def read(number: int) -> NDArray[np.uint8]:
        with Image.open(images[number]) as image:
            width, height = image.size
        return draw_outlines(files[number], height, width)

    return read


def draw_outlines(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """Return the mask that the outlines of an annotation file enclose, uint8 [H, W]: 1 within, else 0.

    Args:
        path: XML as Aperio's ImageScope writes it: ``Region`` elements with ``Vertex`` elements that have X and Y.
        height: Of the image.
        width: Of the image.

    Raises:
        UserError: The file is damaged.
    """
    mask = Image.new("L", (width, height))
    draw = ImageDraw.Draw(mask)
    try:
        for region in ElementTree.parse(path).iter("Region"):
            outline = [
                (float(vertex.attrib["X"]), float(vertex.attrib["Y"])) for vertex in region.iter("Vertex")
            ]
            if any(not math.isfinite(value) for point in outline for value in point):
                raise ValueError("a vertex is not finite")
            if len(outline) > 2:
                draw.polygon(outline, fill=1, outline=1)
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise UserError(f"These are no outlines: {error}", where=str(path)) from error
    return np.array(mask, dtype=np.uint8)
