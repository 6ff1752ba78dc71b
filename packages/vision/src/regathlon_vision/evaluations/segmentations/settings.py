"""Declaration of the evaluation that draws segmentations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.settings import EvaluationSettings, TaskSettings


@dataclass(frozen=True)
class SegmentationsSettings(EvaluationSettings):
    """Test images, their references and what the model makes of them, side by side (Figure 8 of the DropGraph paper).

    Attributes:
        images: How many, evenly spaced over the split.
    """

    name: ClassVar[str] = "segmentations"
    summary: ClassVar[str] = "pictures of predicted masks beside their references"
    implementation: ClassVar[str] = "regathlon_vision.evaluations.segmentations.evaluation:Segmentations"
    needs: ClassVar[frozenset[str]] = frozenset({"class_labels", "grid_inputs"})
    images: int = 6

    def __post_init__(self) -> None:
        if self.images < 1:
            raise UserError(f"{self.name}: images must be at least 1, not {self.images}.")

    def refusal(self, task: TaskSettings) -> str | None:
        """Return why there is nothing to draw, or None."""
        if task.area != "segmentation":
            return f"{self.name} draws a class for every pixel, which {task.name} does not predict"
        return super().refusal(task)
