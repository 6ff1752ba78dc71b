"""Settings of Mean Teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from regathlon_core.regularizers.checks import check_number
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class MeanTeacherSettings(RegularizerSettings):
    """Mean Teacher: consistency with a moving average of the weights.

    Attributes:
        weight: Largest weight of the consistency, at least 0.
        decay: Of the moving average, in [0, 1); early on it is 1 - 1/(steps + 1) where that is smaller.
        ramp: Share of the budget over which the weight rises to its largest, in [0, 1].
        noise: Standard deviation of the noise on inputs, drawn for student and teacher apart.
        unlabelled: Unlabelled samples in a step per labelled one, at least 0.
    """

    name: ClassVar[str] = "mean_teacher"
    summary: ClassVar[str] = "consistency with an average of the past weights, on unlabelled samples too"
    implementation: ClassVar[str] = "regathlon_core.regularizers.mean_teacher.regularizer:MeanTeacher"
    stage: ClassVar[Stage] = Stage.LOSS
    needs: ClassVar[frozenset[str]] = frozenset(
        {"class_labels", "sample_labels", "grid_inputs", "unlabelled"}
    )
    acting: ClassVar[Mapping[str, Any]] = {"ramp": 0.0}
    weight: float = 8.0
    decay: float = 0.95
    ramp: float = 0.4
    noise: float = 0.15
    unlabelled: float = 1.0

    def __post_init__(self) -> None:
        check_number(self, "weight", 0.0)
        check_number(self, "decay", 0.0, 1.0, below_high=True)
        check_number(self, "ramp", 0.0, 1.0)
        check_number(self, "noise", 0.0)
        check_number(self, "unlabelled", 0.0)
