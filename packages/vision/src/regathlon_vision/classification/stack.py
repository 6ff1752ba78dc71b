"""Classification of small images that are kept in memory as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from regathlon_core.errors import UserError
from regathlon_core.rng import SampleDraw, stream
from regathlon_core.settings import TaskSettings
from regathlon_core.task import Batch, Split
from regathlon_vision import ops
from regathlon_vision.base import ImageTask
from regathlon_vision.classification.augmentation import Uniform, from_draw, from_generator, normal


@dataclass(frozen=True)
class Stack:
    """Images of one size with their labels.

    Attributes:
        images: uint8 [N, C, H, W].
        labels: int64 [N].
    """

    images: Tensor
    labels: Tensor

    def take(self, index: Tensor) -> Stack:
        """Return some of them."""
        return Stack(self.images[index], self.labels[index])


class StackTask(ImageTask):
    """Images that lie in memory as bytes; a training image is shifted, mirrored and (if asked for) made noisy.

    Everything is done to whole batches where the bytes are, and every random number belongs to its sample.

    Args:
        settings: The declaration; its ``padding`` is the largest shift in pixels (the image is mirrored at its border), and
            its ``noise``, where it has one, the standard deviation of noise added to normalised images.
        classes: Names of the classes.
        splits: Labelled images.
        unlabelled: uint8 [N, C, H, W], images whose labels are not used; None for the training images.
        mean: Per channel, of pixels in [0, 1].
        std: Likewise.
    """

    mirrored: ClassVar[bool] = True
    """Whether an image and its mirror image are of one class."""

    def __init__(
        self,
        settings: TaskSettings,
        classes: Sequence[str],
        splits: Mapping[Split, Stack],
        *,
        unlabelled: Tensor | None = None,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__(settings)
        self._classes = tuple(classes)
        self._splits = dict(splits)
        self._unlabelled = unlabelled if unlabelled is not None and len(unlabelled) else None
        self.pixel_mean, self.pixel_std = tuple(mean), tuple(std)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self._classes

    @property
    def in_channels(self) -> int:
        """Colours of an image."""
        return self._splits["train"].images.shape[1]

    def size(self, split: Split) -> int:
        """Return the number of labelled images."""
        return len(self._splits[split].labels) if split in self._splits else 0

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        """Return images, float32 [B, C, H, W], augmented where there is a draw."""
        part = self._splits[split].take(index)
        uniform = None if draw is None else from_draw(draw, index)
        return Batch(self._prepared(part.images, uniform), part.labels, index=index)

    def unlabelled(self, count: int, generator: torch.Generator) -> Tensor:
        """Return random images whose labels nobody asks for, augmented as for training, [count, C, H, W].

        Args:
            count: How many, drawn with replacement.
            generator: Source of randomness, on the CPU.
        """
        index = torch.randint(self._unlabelled_count, (count,), generator=generator)
        return self._prepared(self._drawn(index), from_generator(generator, count))

    @property
    def _unlabelled_count(self) -> int:
        return len(self._pool)

    def _drawn(self, index: Tensor) -> Tensor:
        """Return unlabelled images, uint8 [B, C, H, W]."""
        return self._pool[index]

    @property
    def _pool(self) -> Tensor:
        return self._splits["train"].images if self._unlabelled is None else self._unlabelled

    def _prepared(self, images: Tensor, uniform: Uniform | None) -> Tensor:
        if uniform is None:
            return self.normalized(images / 255)
        if padding := getattr(self.settings, "padding", 0):
            images = ops.random_shift(images, uniform(2, "shift"), padding, border="reflect")
        if self.mirrored:
            images = ops.random_flip(images, uniform(1, "flip")[:, 0])
        inputs = self.normalized(images / 255)
        if noise := getattr(self.settings, "noise", 0.0):
            inputs = inputs + noise * normal(uniform, inputs[0].numel(), "noise").view_as(inputs)
        return inputs


def few_labels(labels: Tensor, count: int, split: int, classes: int) -> tuple[Tensor, Tensor]:
    """Choose the same number of samples of every class: one of several fixed splits of low-data experiments.

    Args:
        labels: Of all samples, int64 [N].
        count: How many to keep in all, a multiple of the number of classes.
        split: Which split, from 0.
        classes: Number of classes.

    Returns:
        Indices of those kept and of the others, int64, in rising order.

    Raises:
        UserError: The number cannot be shared out, or a class has too few.

    Example:
        >>> kept, others = few_labels(torch.tensor([0, 1, 0, 1, 1, 0]), 2, 0, 2)
        >>> len(kept), len(others)
        (2, 4)
    """
    if count % classes:
        raise UserError(f"{count} labels cannot be shared out evenly among {classes} classes.")
    order = torch.randperm(len(labels), generator=stream(split, "labels"))
    kept = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(classes):
        members = order[labels[order] == label]
        if len(members) < count // classes:
            raise UserError(
                f"{count} labels are {count // classes} of each class, and a class has only {len(members)} images."
            )
        kept[members[: count // classes]] = True
    return kept.nonzero()[:, 0], (~kept).nonzero()[:, 0]
