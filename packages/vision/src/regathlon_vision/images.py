"""Images in files: listed by folder, decoded once, kept as bytes.

Small images of one size become one uint8 tensor, which moves to the device and is augmented there in whole batches
(``regathlon_vision.ops``). Images that are large or of many sizes stay in ``ImageFiles``, which cuts windows out of them
on several threads; those that fit into its memory are decoded once, and the pixels are the same either way.
"""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from regathlon_core.errors import UserError

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
"""What counts as an image file, in lower case."""

Mode = Literal["RGB", "L", "P"]
"""Colours, brightness, or the palette indices themselves (labels)."""

Window = tuple[float, float, float, float]
"""Top, left, height and width of a part of an image, in pixels."""


@dataclass(frozen=True)
class Listing:
    """Files of images and the class of each.

    Attributes:
        paths: The files.
        labels: Index into ``classes`` of each, int64 [N].
        classes: Names of the classes.
    """

    paths: tuple[Path, ...]
    labels: Tensor
    classes: tuple[str, ...]


def image_files(folder: Path) -> tuple[Path, ...]:
    """Return the image files directly in a folder, sorted by name.

    Raises:
        UserError: There is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError("There is no such folder.", where=str(folder))
    with os.scandir(folder) as entries:  # several times faster than iterdir on folders of many files
        names = sorted(entry.name for entry in entries if Path(entry.name).suffix.lower() in ENDINGS)
    if not names:
        raise UserError("There are no images in this folder.", where=str(folder))
    return tuple(folder / name for name in names)


def list_classes(folder: Path, classes: Sequence[str] | None = None) -> Listing:
    """List images that lie in one folder per class, as torchvision's ``ImageFolder`` has them.

    Args:
        folder: Holds ``<class>/<image>``.
        classes: Names of the classes, in the order of the labels; None for the folders there are, sorted.

    Raises:
        UserError: The folder or one of the classes is not there, or a class has no images.
    """
    if not folder.is_dir():
        raise UserError("There is no such folder.", where=str(folder))
    names = tuple(classes or sorted(path.name for path in folder.iterdir() if path.is_dir()))
    if not names:
        raise UserError("There is no folder of a class in here.", where=str(folder))
    groups = [image_files(folder / name) for name in names]
    labels = torch.cat([torch.full((len(group),), label) for label, group in enumerate(groups)])
    return Listing(tuple(path for group in groups for path in group), labels, names)


def decode(path: Path, mode: Mode = "RGB") -> NDArray[np.uint8]:
    """Return the pixels of an image file, uint8 [H, W, C], C = 3 for ``"RGB"``, else 1.

    Raises:
        UserError: It is missing, damaged or no image.
    """
    try:
        with Image.open(path) as image:
            # Labels are stored as palette indices or as gray values; both are read as the numbers they are.
            plain = mode == "P" and image.mode in ("P", "L")
            pixels = np.array(image if plain or image.mode == mode else image.convert(mode), dtype=np.uint8)
    except FileNotFoundError:
        raise UserError("There is no such file.", where=str(path)) from None
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise UserError(f"It is damaged or no image: {error}", where=str(path)) from error
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def read_stack(paths: Sequence[Path], *, mode: Mode = "RGB", size: tuple[int, int] | None = None) -> Tensor:
    """Decode images of one size into memory.

    Args:
        paths: The files.
        mode: Colours, brightness or labels.
        size: Height and width that other images are resized to (bilinear; labels to the nearest); None where all are
            of one size.

    Returns:
        uint8 [N, C, H, W].

    Raises:
        UserError: A file cannot be read, or its size differs from the first one's where ``size`` is None.
    """

    def read(path: Path) -> NDArray[np.uint8]:
        pixels = decode(path, mode)
        return pixels if size is None or pixels.shape[:2] == size else _resize(pixels, size, None, mode)

    if not paths:
        raise UserError("There are no images to read.")
    first = read(paths[0])
    stack = torch.empty(len(paths), first.shape[2], *first.shape[:2], dtype=torch.uint8)

    def put(position: int) -> None:
        pixels = read(paths[position])
        if pixels.shape != first.shape:
            height, width = pixels.shape[:2]
            raise UserError(
                f"It is {height} by {width} pixels, {paths[0].name} is {first.shape[0]} by {first.shape[1]}; "
                f"these images must have one size.",
                where=str(paths[position]),
            )
        stack[position] = torch.from_numpy(pixels).permute(2, 0, 1)

    list(_pool().map(put, range(len(paths))))
    return stack


class ImageFiles:
    """Images of any size, decoded on several threads as they are asked for, and kept while memory lasts.

    Args:
        paths: The files.
        mode: Colours, brightness or labels.
        memory: Bytes of decoded images to keep. What is kept changes no pixel, only the time it takes.
    """

    def __init__(self, paths: Sequence[Path], *, mode: Mode = "RGB", memory: int = 1 << 30) -> None:
        self.paths = tuple(paths)
        self.mode: Mode = mode
        self._free = memory
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.paths)

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """Return one image, uint8 [H, W, C]; do not write to it."""
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        pixels = decode(self.paths[index], self.mode)
        with self._lock:
            if index not in self._kept and pixels.nbytes <= self._free:
                self._free -= pixels.nbytes
                self._kept[index] = pixels
        return pixels

    def windows(
        self, index: Tensor, size: tuple[int, int], window: Callable[[int, int, int], Window]
    ) -> Tensor:
        """Cut a window out of each of some images and resize it (with antialiasing; labels to the nearest).

        Args:
            index: Which images, int64 [B].
            size: Height and width of the result.
            window: Called with (position in the batch, height, width of the image), returns the window.

        Returns:
            uint8 [B, C, height, width].

        Raises:
            UserError: A file cannot be read.
        """

        def cut(position: int) -> Tensor:
            pixels = self.pixels(int(index[position]))
            box = window(position, *pixels.shape[:2])
            return torch.from_numpy(_resize(pixels, size, box, self.mode)).permute(2, 0, 1)

        return torch.stack(list(_pool().map(cut, range(len(index)))))


def central_window(height: int, width: int, *, share: float = 1.0) -> Window:
    """Return the square in the middle of an image.

    Args:
        height: Of the image.
        width: Of the image.
        share: Side of the square as a share of the shorter side: 0.875 is the usual 224 of 256.

    Example:
        >>> central_window(300, 200, share=0.5)
        (100.0, 50.0, 100.0, 100.0)
    """
    side = min(height, width) * share
    return (height - side) / 2, (width - side) / 2, side, side


def random_window(
    height: int,
    width: int,
    uniform: Sequence[float],
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Window:
    """Return a random part of an image, as GoogLeNet's training crops them (Szegedy et al. 2015, section 6).

    The area is uniform in ``scale``, the logarithm of the aspect ratio uniform in that of ``ratio``, the place uniform.
    Where it does not fit, the next numbers are taken; after the last the largest central part with an allowed ratio.

    Args:
        height: Of the image.
        width: Of the image.
        uniform: Random numbers in [0, 1): four for each attempt (area, ratio, vertical, horizontal place).
        scale: Smallest and largest share of the area.
        ratio: Smallest and largest width divided by height.

    Example:
        >>> random_window(100, 100, (0.0, 0.5, 0.0, 0.5), scale=(0.25, 1.0))
        (0.0, 25.0, 50.0, 50.0)
    """
    for at in range(0, len(uniform) - 3, 4):
        area, aspect, vertical, horizontal = uniform[at : at + 4]
        target = height * width * (scale[0] + (scale[1] - scale[0]) * area)
        shape = math.exp(math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * aspect)
        tall, broad = round(math.sqrt(target / shape)), round(math.sqrt(target * shape))
        if 0 < tall <= height and 0 < broad <= width:
            top = math.floor(vertical * (height - tall + 1))
            left = math.floor(horizontal * (width - broad + 1))
            return float(top), float(left), float(tall), float(broad)
    aspect = min(max(width / height, ratio[0]), ratio[1])
    tall, broad = min(height, round(width / aspect)), min(width, round(height * aspect))
    return (height - tall) / 2, (width - broad) / 2, float(tall), float(broad)


def _resize(
    pixels: NDArray[np.uint8], size: tuple[int, int], window: Window | None, mode: Mode
) -> NDArray[np.uint8]:
    image = Image.fromarray(pixels if mode == "RGB" else pixels[:, :, 0])
    box = None
    if window is not None:
        top, left, height, width = window
        box = (left, top, left + width, top + height)
    kind = Image.Resampling.NEAREST if mode == "P" else Image.Resampling.BILINEAR
    resized = np.array(image.resize((size[1], size[0]), kind, box=box), dtype=np.uint8)
    return resized if resized.ndim == 3 else resized[:, :, None]


def _pool() -> ThreadPoolExecutor:
    """Return the threads that decode (decoders release Python's lock)."""
    return _pool_of(os.getpid())


@functools.lru_cache(maxsize=1)
def _pool_of(process: int) -> ThreadPoolExecutor:
    # Threads do not survive a fork, so every process has its own.
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="images")
