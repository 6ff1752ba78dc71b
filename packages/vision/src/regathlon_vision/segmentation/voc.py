"""Pascal VOC 2012, with the further masks of SBD."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regathlon_core.errors import UserError, for_the_user
from regathlon_core.task import Split
from regathlon_data import DataError, require
from regathlon_vision.images import ImageFiles, decode
from regathlon_vision.segmentation.augmentation import Augmentation
from regathlon_vision.segmentation.pairs import Pairs, PairTask
from regathlon_vision.segmentation.settings import VocSettings

CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
_FRAME = 512  # the longer side of VOC's images is 500


class VocTask(PairTask):
    """The task that ``VocSettings`` declares.

    Training images are mirrored, scaled by 0.5 to 1.5 and cut to their central square (Xiang et al., arXiv:2106.01805,
    appendix B.2); the test split is VOC's validation split, in full. Borders of objects do not count.

    The files lie as torchvision has them: ``VOCdevkit/VOC2012`` and, for SBD (Hariharan et al., 2011), ``SBD`` with
    ``cls/*.mat``, ``train.txt`` and ``val.txt``, or, as is common too, ``VOCdevkit/VOC2012/SegmentationClassAug/*.png``.

    Args:
        settings: The declaration.
        data: The data root; see ``regathlon_data.data_root``.

    Raises:
        UserError: The data is not there.
    """

    def __init__(self, settings: VocSettings, data: Path | None = None) -> None:
        with for_the_user(DataError):
            root = require(settings.dataset, data)
        voc = root / "VOCdevkit" / "VOC2012"
        train, test = (
            _names(voc / "ImageSets" / "Segmentation" / f"{name}.txt") for name in ("train", "val")
        )
        masks = {name: voc / "SegmentationClass" / f"{name}.png" for name in (*train, *test)}
        if settings.sbd:
            more = _sbd(root, voc)
            for name in masks.keys() & more.keys():
                del more[name]
            masks |= more
            train = [*train, *more]
        splits: dict[Split, Pairs] = {
            "train": _pairs(voc, train, masks),
            "test": _pairs(voc, test, masks),
        }
        super().__init__(
            settings,
            splits,
            CLASSES,
            augmentation=Augmentation(zoom=(0.5, 1.5), mirror=True),
            crop=settings.crop,
            frame=_FRAME,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        )


def _names(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"It cannot be read: {error}", where=str(path)) from error


def _sbd(root: Path, voc: Path) -> dict[str, Path]:
    """Return where the masks of SBD lie, by the names of their images."""
    drawn = voc / "SegmentationClassAug"
    if drawn.is_dir():
        return {path.stem: path for path in sorted(drawn.glob("*.png"))}
    folder = root / "SBD"
    if not folder.is_dir():
        raise UserError(
            f"SBD's masks are neither in {folder} nor in {drawn}; bring them, or say segmentation/voc(sbd=false)."
        )
    names = [name for part in ("train", "val") for name in _names(folder / f"{part}.txt")]
    return {name: folder / "cls" / f"{name}.mat" for name in names}


def _pairs(voc: Path, names: list[str], masks: dict[str, Path]) -> Pairs:
    images = ImageFiles([voc / "JPEGImages" / f"{name}.jpg" for name in names])
    return Pairs(images, _mask_reader([masks[name] for name in names]))


def _mask_reader(paths: list[Path]) -> Callable[[int], NDArray[np.uint8]]:
    @functools.lru_cache(maxsize=4096)
    def read(number: int) -> NDArray[np.uint8]:
        path = paths[number]
        return read_sbd(path) if path.suffix == ".mat" else decode(path, "P")[:, :, 0]

    return read


def read_sbd(path: Path) -> NDArray[np.uint8]:
    """Return the class mask of one of SBD's files, uint8 [H, W].

    Raises:
        UserError: The file is missing or damaged.
    """
    from scipy.io import loadmat  # type: ignore[import-untyped]

    try:
        content = loadmat(path)
        mask = content["GTcls"][0]["Segmentation"][0]
    except Exception as error:  # loadmat raises whatever a damaged file makes it stumble over
        raise UserError(f"It is missing or no mask of SBD: {error}", where=str(path)) from error
    return np.asarray(mask, dtype=np.uint8)
