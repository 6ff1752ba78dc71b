"""Mean Teacher's schedules and loss."""

from __future__ import annotations

import math

from torch import Tensor


def ramped(progress: float, ramp: float) -> float:
    """Return the share of the consistency's weight at a point of the budget: exp(-5 (1 - t)²), t = progress / ramp.

    Example:
        >>> [round(ramped(progress, 0.4), 3) for progress in (0.0, 0.2, 0.4, 1.0)]
        [0.007, 0.287, 1.0, 1.0]
    """
    return 1.0 if progress >= ramp else math.exp(-5 * (1 - progress / ramp) ** 2)


def decay_at(steps: int, decay: float) -> float:
    """Return the average's decay after so many steps: a plain mean of all weights at first.

    Example:
        >>> [decay_at(steps, 0.95) for steps in (1, 3, 1000)]
        [0.5, 0.75, 0.95]
    """
    return min(1 - 1 / (steps + 1), decay)


def consistency(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared distance of two networks' probabilities; the teacher's are constants.

    Args:
        student: Logits [B, K].
        teacher: Logits [B, K].

    Returns:
        Scalar, float32 at least.
    """
    first, second = (logits if logits.itemsize >= 4 else logits.float() for logits in (student, teacher))
    return (first.softmax(1) - second.detach().softmax(1)).square().mean()
