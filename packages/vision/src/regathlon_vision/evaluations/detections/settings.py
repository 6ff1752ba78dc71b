"""Settings of the pictures of detections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.settings import EvaluationSettings


@dataclass(frozen=True)
class DetectionsSettings(EvaluationSettings):
    """What a detector finds in the first test images, drawn beside what is there.

    Attributes:
        images: How many.
        score: Detections of at least this score are drawn, in [0, 1].
    """

    name: ClassVar[str] = "detections"
    summary: ClassVar[str] = "boxes, masks and scores drawn over test images, beside the annotated objects"
    implementation: ClassVar[str] = "regathlon_vision.evaluations.detections.evaluation:Detections"
    needs: ClassVar[frozenset[str]] = frozenset({"box_labels"})
    images: int = 6
    score: float = 0.5

    def __post_init__(self) -> None:
        if self.images < 1:
            raise UserError(f"images is a number of at least 1, not {self.images}.")
        if not 0 <= self.score <= 1:
            raise UserError(f"score lies in [0, 1], not {self.score}.")
