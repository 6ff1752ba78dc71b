"""Settings of knowledge distillation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from regathlon_core.errors import UserError
from regathlon_core.notation import declared, parse_one
from regathlon_core.regularizers.checks import check_number
from regathlon_core.settings import ModelSettings, RegularizerSettings, Stage, TaskSettings


@dataclass(frozen=True)
class DistillationSettings(RegularizerSettings):
    """Knowledge distillation: the softened outputs of a trained teacher beside the labels.

    Attributes:
        teacher: One of the task's models, as a suite writes it (``"resnet152(tweaked=true)"``); empty for a network of the
            student's own kind.
        weights: File with the teacher's state dict. A trial is known by the file's contents, not by its path.
        temperature: What both networks' logits are divided by, above 0.
        weight: Of the term, at least 0; the loss on the labels has weight 1.
    """

    name: ClassVar[str] = "distillation"
    summary: ClassVar[str] = "learns from the softened outputs of a trained teacher, too"
    implementation: ClassVar[str] = "regathlon_core.regularizers.distillation.regularizer:Distillation"
    stage: ClassVar[Stage] = Stage.LOSS
    needs: ClassVar[frozenset[str]] = frozenset({"class_labels", "soft_loss"})
    zero: ClassVar[Mapping[str, Any] | None] = {"weight": 0.0}
    acting: ClassVar[Mapping[str, Any]] = {"weights": "teacher.pt"}
    weight_files: ClassVar[tuple[str, ...]] = ("weights",)
    teacher: str = ""
    weights: str = ""
    temperature: float = 20.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_number(self, "temperature", 0.0, above_low=True)
        check_number(self, "weight", 0.0)
        if self.teacher:
            parse_one(self.teacher, kind="teacher")

    def describe(self) -> dict[str, Any]:
        """Return the scientific description, in which the teacher is the same however it is spelt."""
        found = super().describe()
        if self.teacher:
            teacher = parse_one(self.teacher, kind="teacher")
            found["settings"]["teacher"] = (teacher.name, teacher.values())
        return found

    def refusal(self, task: TaskSettings) -> str | None:
        """Return why it cannot run on this task: it needs a teacher's weights, and a teacher that the task knows."""
        reason = super().refusal(task)
        if reason is not None:
            return reason
        if not self.weights:
            return f"{self.name} needs a trained teacher: the file of its weights (weights=FILE), and its name (teacher=MODEL)"
        try:
            self.teacher_of(task)
        except UserError as error:
            return f"{self.name} needs a teacher that {task.name} knows. {error.message.rstrip('.')}"
        return None

    def teacher_of(self, task: TaskSettings) -> ModelSettings | None:
        """Return the declaration of the teacher, or None for one of the student's own kind.

        Raises:
            UserError: The task has no such model, or the model no such setting.
        """
        return declared(self.teacher, task.models, what=f"model of {task.name}") if self.teacher else None
