"""Tasks on pairs of image and mask in files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regathlon_core.errors import UserError
from regathlon_core.metrics import ConfusionMetrics, Metrics
from regathlon_core.rng import SampleDraw
from regathlon_core.settings import TaskSettings
from regathlon_core.task import Batch, Split
from regathlon_vision.base import ImageTask
from regathlon_vision.images import ImageFiles
from regathlon_vision.segmentation.augmentation import DRAWS, Augmentation, centred, shrunk

IGNORED = 255
"""Label of pixels that do not count."""
_MEASURED = 32


@dataclass(frozen=True)
class Corner:
    """A square that is cut out of an image.

    Attributes:
        file: Position of the image among the files.
        top: First row.
        left: First column.
    """

    file: int
    top: int
    left: int


@dataclass(frozen=True)
class Pairs:
    """Images with their masks.

    Attributes:
        images: The images.
        mask: Returns the mask of an image by its position, uint8 [H, W].
        corners: Squares of ``side`` that are samples of their own; None where every image is one sample.
        side: Of the squares.
    """

    images: ImageFiles
    mask: Callable[[int], NDArray[np.uint8]]
    corners: tuple[Corner, ...] | None = None
    side: int = 0

    def __len__(self) -> int:
        return len(self.images) if self.corners is None else len(self.corners)

    def read(self, number: int) -> tuple[Tensor, Tensor]:
        """Return a sample: uint8 [3, H, W] and [1, H, W].

        Raises:
            UserError: A file cannot be read, or the mask has another size than the image.
        """
        corner = Corner(number, 0, 0) if self.corners is None else self.corners[number]
        image, mask = self.images.pixels(corner.file), self.mask(corner.file)
        if image.shape[:2] != mask.shape:
            raise UserError(
                f"Its mask is {mask.shape[0]} by {mask.shape[1]} pixels, the image {image.shape[0]} by {image.shape[1]}.",
                where=str(self.images.paths[corner.file]),
            )
        if self.corners is not None:
            rows, columns = (slice(start, start + self.side) for start in (corner.top, corner.left))
            image, mask = image[rows, columns], mask[rows, columns]
        image, mask = np.ascontiguousarray(image), np.ascontiguousarray(mask)
        return torch.from_numpy(image.copy()).permute(2, 0, 1), torch.from_numpy(mask.copy())[None]


class PairTask(ImageTask):
    """A task on images and masks in files; inputs are float32 [B, 3, side, side], labels int64 [B, side, side].

    Training samples are transformed at random, image and mask alike, and cut to their central square. Else the
    whole sample counts: it is centred in a frame, and only made smaller where it is larger than that. What lies beyond
    an image is its data's mean colour and the label 255, which does not count.

    Args:
        settings: The declaration.
        splits: The samples.
        classes: Names of the classes; masks hold their numbers, or 255.
        augmentation: Of training samples.
        crop: Side of training samples.
        frame: Side of samples in evaluation.
        shrink: Whether larger training samples are made smaller, too, before they are transformed.
        mean: Mean of pixels in [0, 1], per colour; measured on up to 32 training samples unless given.
        std: Their standard deviation.
    """

    ignore_index = IGNORED
    dense = True
    view_angles = (0.0, 15.0, -15.0)

    def __init__(
        self,
        settings: TaskSettings,
        splits: Mapping[Split, Pairs],
        classes: Sequence[str],
        *,
        augmentation: Augmentation,
        crop: int,
        frame: int,
        shrink: bool = False,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
    ) -> None:
        super().__init__(settings)
        self._splits, self._classes = splits, tuple(classes)
        self._augmentation, self._crop, self._frame = augmentation, crop, frame
        self._shrink = shrink
        if not mean or not std:
            mean, std = _colours(splits["train"])
        self.pixel_mean, self.pixel_std = tuple(mean), tuple(std)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, the background first."""
        return self._classes

    @property
    def in_channels(self) -> int:
        """Red, green and blue."""
        return 3

    def size(self, split: Split) -> int:
        """Return the number of samples; 0 where there is no such split."""
        return len(self._splits[split]) if split in self._splits else 0

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        """Return samples, transformed at random where there is a draw.

        Raises:
            UserError: A file cannot be read, or a mask holds what is no class.
        """
        fill = [255 * colour for colour in self.pixel_mean]
        uniform = draw.uniform(index, DRAWS, purpose="pair").tolist() if draw is not None else None
        side = self._crop if split == "train" else self._frame
        images, masks = [], []
        for position, number in enumerate(index.tolist()):
            image, mask = self._splits[split].read(number)
            if self._shrink or split != "train" or draw is None:
                image, mask = shrunk(image, side, labels=False), shrunk(mask, side, labels=True)
            if uniform is not None:
                image, mask = self._augmentation(image, mask, uniform[position], fill, IGNORED)
            images.append(centred(image, side, fill))
            masks.append(centred(mask, side, [IGNORED])[0])
        labels = torch.stack(masks).long()
        self._check(labels, split, index)
        return Batch(self.normalized(torch.stack(images).float() / 255), labels, index=index)

    def metrics(self) -> Metrics:
        """Return accuracies, mIoU and Dice, and those of the foreground where there is one class of it."""
        if len(self._classes) == 2:
            return ForegroundMetrics(2, ignore_index=IGNORED, dense=True)
        return super().metrics()

    def _check(self, labels: Tensor, split: Split, index: Tensor) -> None:
        wrong = (labels >= len(self._classes)) & (labels != IGNORED)
        if bool(wrong.any()):
            sample = int(wrong.flatten(1).any(dim=1).nonzero()[0])
            pairs, number = self._splits[split], int(index[sample])
            file = number if pairs.corners is None else pairs.corners[number].file
            raise UserError(
                f"Its mask holds {int(labels[wrong][0])}, which is none of the {len(self._classes)} classes (0 to "
                f"{len(self._classes) - 1}; 255 does not count).",
                where=str(pairs.images.paths[file]),
            )


class ForegroundMetrics(ConfusionMetrics):
    """The metrics of segmentation, and ``foreground_iou`` and ``foreground_dice``: those of class 1 alone."""

    def compute(self) -> Mapping[str, float]:
        """Return the metrics; those of the foreground are NaN where there is none, neither labelled nor predicted."""
        matrix = self.matrix.double()
        hit, both = matrix[1, 1], matrix[1].sum() + matrix[:, 1].sum()
        return {
            **super().compute(),
            "foreground_iou": float(hit / (both - hit)),
            "foreground_dice": float(2 * hit / both),
        }


def _colours(pairs: Pairs) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of pixels in [0, 1], per colour, over a part of the samples."""
    chosen = range(0, len(pairs), max(1, len(pairs) // _MEASURED))
    pixels = torch.cat([pairs.read(number)[0].flatten(1).double() / 255 for number in chosen], dim=1)
    mean, std = pixels.mean(dim=1), pixels.std(dim=1).clamp(min=1e-3)
    return tuple(mean.tolist()), tuple(std.tolist())
