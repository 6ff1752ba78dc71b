"""What evaluations of images ask of a task."""

from __future__ import annotations

from torch import Tensor

from regathlon_core.task import Split, Task
from regathlon_vision.base import ImageTask


def shown_split(task: Task) -> Split:
    """Return the split that is shown: the test split, or the validation split where there is no other."""
    return "test" if task.size("test") else "val"


def visible(task: ImageTask, inputs: Tensor) -> Tensor:
    """Return the pixels in [0, 1] that inputs [B, C, H, W] stand for, or, where the task does not say, something like it.

    Without pixels, every image's own range is shown.
    """
    if task.pixel_mean:
        return task.pixels(inputs).clamp(0, 1)
    low, high = (inputs.flatten(1).aminmax(dim=1)[end][:, None, None, None] for end in (0, 1))
    return (inputs - low) / (high - low).clamp(min=1e-12)
