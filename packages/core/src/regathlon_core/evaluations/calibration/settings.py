"""Declaration of the calibration evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.settings import EvaluationSettings


@dataclass(frozen=True)
class CalibrationSettings(EvaluationSettings):
    """How far the predicted probabilities of the test split can be believed.

    Attributes:
        bins: Bins of equal width over the confidence, at least 1.
    """

    name: ClassVar[str] = "calibration"
    summary: ClassVar[str] = (
        "Expected calibration error, negative log-likelihood and Brier score on the test split"
    )
    implementation: ClassVar[str] = "regathlon_core.evaluations.calibration.evaluation:Calibration"
    needs: ClassVar[frozenset[str]] = frozenset({"class_labels"})

    bins: int = 15

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise UserError(f"calibration needs at least 1 bin, not {self.bins}.")
