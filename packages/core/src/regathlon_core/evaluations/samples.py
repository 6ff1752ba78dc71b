"""Which samples evaluations look at."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from regathlon_core.errors import UserError
from regathlon_core.task import Batch, Task


def first_test_batches(
    task: Task, samples: int, device: torch.device | str = "cpu", *, batch_size: int = 64
) -> Iterator[Batch]:
    """Yield a task's first test samples in batches.

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
    count = min(samples or size, size)
    for index in torch.split(torch.arange(count), batch_size):
        yield task.batch("test", index).to(device)
