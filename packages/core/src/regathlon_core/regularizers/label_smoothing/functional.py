"""Label smoothing as a pure function."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.errors import UserError


def label_smoothing(targets: Tensor, classes: int, smoothing: float = 0.1) -> Tensor:
    """Return smoothed label distributions: (1-smoothing)·one-hot + smoothing/K.

    Szegedy et al. (2016), section 7. A cross-entropy takes them as probabilities; ``cross_entropy(...,
    label_smoothing=smoothing)`` with the labels themselves computes the same loss without making them.

    Args:
        targets: Class labels in [0, K), int64 [B, *spatial].
        classes: Number of classes K.
        smoothing: Share spread over all classes, the true one included, in [0, 1).

    Returns:
        float32 [B, K, *spatial]; sums to 1 over dimension 1.

    Raises:
        UserError: ``smoothing`` is out of its range.

    Example:
        >>> label_smoothing(torch.tensor([1]), classes=4, smoothing=0.2)
        tensor([[0.0500, 0.8500, 0.0500, 0.0500]])
    """
    if not 0 <= smoothing < 1:
        raise UserError(f"smoothing must lie in [0, 1), not {smoothing}.")
    one_hot = torch.nn.functional.one_hot(targets, classes).movedim(-1, 1).float()
    return one_hot * (1 - smoothing) + smoothing / classes
