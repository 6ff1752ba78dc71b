"""How relevant the positions of a task's inputs are: what its modality means by a position is the task's to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.attribution.relevance import lrp
from regathlon_core.task import Batch, Task


def relevance_of_positions(
    model: nn.Module,
    task: Task,
    batch: Batch,
    generator: torch.Generator,
    attribute: Callable[..., Tensor] = lrp,
) -> Tensor:
    """Return how relevant each position of a batch's inputs is to its sample's class, summed over channels.

    Args:
        model: The model.
        task: Says which tensor holds the positions, and which score is explained ("occlude").
        batch: Samples.
        generator: Source of randomness, where the task has a choice of what to explain.
        attribute: ``lrp`` or another function of its kind.

    Returns:
        [B, *positions], or [N] for nodes.

    Example:
        >>> from regathlon_core.testing import ToyImages
        >>> task = ToyImages()
        >>> batch = task.batch("test", torch.arange(2))
        >>> relevance_of_positions(task.model(seed=0), task, batch, torch.Generator()).shape[1:] == batch.inputs.shape[2:]
        True
    """
    inputs: Any = batch.inputs
    if isinstance(inputs, Tensor):  # half precision is autocast's business, which is off here
        inputs = inputs.to(next((parameter.dtype for parameter in model.parameters()), inputs.dtype))
    scores, classes = task.explained(batch, generator)
    with torch.autocast(classes.device.type, enabled=False):
        relevance = attribute(model, inputs, classes, wrt=task.attributed, forward=scores)
    return relevance.sum(dim=1)
