"""Images that a task does not know, in folders named like its classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from regathlon_core.errors import UserError
from regathlon_core.task import Task
from regathlon_vision.base import ImageTask
from regathlon_vision.images import ImageFiles, Listing, central_window, list_classes

_SHARE = 7 / 8  # of the shorter side, as 224 of 256


def pixel_task(task: Task) -> ImageTask:
    """Return the task, which must say how pixels become inputs.

    Raises:
        UserError: It does not.
    """
    if not isinstance(task, ImageTask) or not task.pixel_mean:
        raise UserError(
            f"{task.settings.name} does not say how pixels become inputs, so no other images fit."
        )
    return task


def input_size(task: Task) -> tuple[int, int]:
    """Return height and width of the task's test images."""
    shape = task.batch("test", torch.zeros(1, dtype=torch.int64)).inputs.shape
    return int(shape[-2]), int(shape[-1])


def images_of_classes(folder: Path, classes: Sequence[str]) -> tuple[Listing, Tensor]:
    """List images in ``<class>/<image>``, for some of a task's classes.

    Args:
        folder: Where the folders of classes lie.
        classes: The task's.

    Returns:
        The images, with labels of the task, and the labels of the classes that are there, int64, rising.

    Raises:
        UserError: There is no such folder, or a folder in it is no class of the task.
    """
    listing = list_classes(folder)
    number = {name: label for label, name in enumerate(classes)}
    strange = [name for name in listing.classes if name not in number]
    if strange:
        raise UserError(
            f"Its folder {strange[0]!r} is none of the task's {len(classes)} classes ({', '.join(classes[:3])}, ...).",
            where=str(folder),
        )
    there = torch.tensor([number[name] for name in listing.classes])
    return Listing(listing.paths, there[listing.labels], tuple(classes)), there.sort().values


def inputs_of(
    task: ImageTask, paths: Sequence[Path], batch_size: int = 64
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (positions in ``paths``, inputs) of images, cut out in the middle at the size of the task's test images."""
    size = input_size(task)
    files = ImageFiles(paths, memory=0)
    for index in torch.split(torch.arange(len(paths)), batch_size):
        pixels = files.windows(
            index, size, lambda at, height, width: central_window(height, width, share=_SHARE)
        )
        yield index, task.normalized(pixels / 255)
