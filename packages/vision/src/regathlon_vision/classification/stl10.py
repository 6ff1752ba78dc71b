"""STL-10."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from regathlon_core.errors import UserError, for_the_user
from regathlon_core.task import Split
from regathlon_data import DataError, require
from regathlon_vision.classification.settings import Stl10Settings
from regathlon_vision.classification.stack import Stack, StackTask

_SIDE = 96
_FOLDS = 10


class Stl10Task(StackTask):
    """The task that ``Stl10Settings`` declares; inputs are float32 [B, 3, side, side].

    The files lie where torchvision's ``STL10`` has them, in ``stl10_binary``. Training images are those of one of the ten
    predefined folds of 1000, or all 5000; the unlabelled ones are read as they are asked for.

    Args:
        settings: Which fold, at which resolution.
        data: The data root; see ``regathlon_data.data_root``.

    Raises:
        UserError: Files are missing or damaged.
    """

    def __init__(self, settings: Stl10Settings, data: Path | None = None) -> None:
        with for_the_user(DataError):
            folder = require(settings.dataset, data) / "stl10_binary"
        train, test = (_labelled(folder, part, settings.side) for part in ("train", "test"))
        if settings.labels:
            train = train.take(_fold(folder, settings.split or 0, len(train.labels)))
        splits: dict[Split, Stack] = {"train": train, "test": test}
        names = _lines(folder / "class_names.txt")
        super().__init__(settings, names, splits, mean=(0.4467, 0.4398, 0.4066), std=(0.2603, 0.2566, 0.2713))
        if not 0 <= int(train.labels.min()) <= int(train.labels.max()) < len(names):
            raise UserError(f"A label is none of the {len(names)} classes.", where=str(folder))
        self._stored = _stored(folder / "unlabeled_X.bin")
        self._side = settings.side

    def _drawn(self, index: Tensor) -> Tensor:
        return _shrunk(_upright(self._stored[index.numpy()]), self._side)

    @property
    def _unlabelled_count(self) -> int:
        return len(self._stored)


def _labelled(folder: Path, part: str, side: int) -> Stack:
    images = _stored(folder / f"{part}_X.bin")
    labels = _bytes(folder / f"{part}_y.bin").astype(np.int64) - 1
    if len(labels) != len(images):
        raise UserError(
            f"There are {len(images)} images and {len(labels)} labels.", where=str(folder / f"{part}_y.bin")
        )
    parts = [_shrunk(_upright(images[at : at + 1000]), side) for at in range(0, len(images), 1000)]
    return Stack(torch.cat(parts), torch.from_numpy(labels))


def _bytes(path: Path) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    try:
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"It cannot be read: {error.strerror}", where=str(path)) from error


def _stored(path: Path) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    """Return images as they lie in a file, uint8 [N, 3, W, H], without reading them."""
    size = 3 * _SIDE * _SIDE
    try:
        count, rest = divmod(path.stat().st_size, size)
    except OSError as error:
        raise UserError(f"It cannot be read: {error.strerror}", where=str(path)) from error
    if rest or not count:
        raise UserError(f"Its size is no multiple of an image's {size} bytes.", where=str(path))
    return np.memmap(path, np.uint8, "r", shape=(count, 3, _SIDE, _SIDE))


def _upright(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.array(images)).transpose(2, 3).contiguous()  # columns are stored first


def _shrunk(images: Tensor, side: int) -> Tensor:
    if side == _SIDE:
        return images
    small = F.interpolate(
        images.float(), size=(side, side), mode="bilinear", antialias=True, align_corners=False
    )
    return small.round().to(torch.uint8)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"It cannot be read: {error}", where=str(path)) from error


def _fold(folder: Path, number: int, size: int) -> Tensor:
    path = folder / "fold_indices.txt"
    lines = [line for line in _lines_of_numbers(path) if line]
    if len(lines) < _FOLDS or not all(0 <= min(line) <= max(line) < size for line in lines):
        raise UserError(f"It does not hold {_FOLDS} lists of numbers below {size}.", where=str(path))
    return torch.tensor(lines[number])


def _lines_of_numbers(path: Path) -> list[list[int]]:
    try:
        return [
            [int(word) for word in line.split()] for line in path.read_text(encoding="ascii").splitlines()
        ]
    except (OSError, ValueError) as error:
        raise UserError(f"It is no list of numbers: {error}", where=str(path)) from error
