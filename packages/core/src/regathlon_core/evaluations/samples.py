"""Which samples evaluations look at."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from regathlon_core.errors import UserError
from regathlon_core.task import Batch, Task


def spread(count: int, size: int) -> Tensor:
    """Return the indices of samples spread evenly over a split: splits are often sorted by class.

    Args:
        count: How many; all where there are fewer.
        size: Samples of the split, at least 1.

    Returns:
        int64 [min(count, size)], rising, the first and the last sample among them (one: the first).

    Example:
        >>> spread(3, 9)
        tensor([0, 4, 8])
    """
    count = min(count, size)
    return torch.arange(count) * (size - 1) // max(count - 1, 1)


def spread_test_batches(
    task: Task, samples: int, device: torch.device | str = "cpu", *, batch_size: int = 64
) -> Iterator[Batch]:
    """Yield test samples of a task, spread evenly, in batches.

    Args:
        task: The task.
        samples: How many; 0 for all.
        device: Where to put them.
        batch_size: Samples of a batch.

    Raises:
        UserError: It has no test samples.
    """
    size = task.size("test")
    if not size:
        raise UserError(f"{task.settings.name} has no test samples to look at.")
    for index in torch.split(spread(samples or size, size), batch_size):
        yield task.batch("test", index).to(device)
