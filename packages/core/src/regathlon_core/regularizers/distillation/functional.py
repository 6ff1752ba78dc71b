"""The loss of knowledge distillation."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from regathlon_core.errors import UserError
from regathlon_core.task import class_divergence


def distillation(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 20.0,
    distance: Callable[[Tensor, Tensor], Tensor] = class_divergence,
) -> Tensor:
    """Return T² times the distance of a student's outputs from a teacher's, both divided by the temperature T.

    The gradients of softened outputs shrink by 1/T², which the factor makes up for.

    Args:
        student: Logits [B, K, *].
        teacher: Logits of the same shape, taken as constants.
        temperature: T, above 0.
        distance: Of the divided logits. The Kullback-Leibler divergence has the gradients of the cross-entropy that papers
            print; the two differ by the entropy of the teacher's probabilities.

    Returns:
        Scalar, float32 at least.

    Raises:
        UserError: The temperature is not above 0, or the shapes differ.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0]])
        >>> float(distillation(logits, logits)), round(float(distillation(logits, -logits, temperature=1.0)), 4)
        (0.0, 1.5232)
    """
    if not temperature > 0:
        raise UserError(f"The temperature must be above 0, not {temperature}.")
    if student.shape != teacher.shape:
        raise UserError(
            f"The teacher's outputs have the shape {tuple(teacher.shape)} and the model's {tuple(student.shape)}. "
            "A teacher needs the classes of its student."
        )
    # In half precision, divided logits would lose what tells them apart.
    first, second = (logits if logits.itemsize >= 4 else logits.float() for logits in (student, teacher))
    return temperature**2 * distance(first / temperature, second.detach() / temperature)
