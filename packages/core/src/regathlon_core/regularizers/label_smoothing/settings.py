"""Settings of label smoothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from regathlon_core.regularizers.checks import check_number
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class LabelSmoothingSettings(RegularizerSettings):
    """Label smoothing: a share of every label is spread over all classes.

    Attributes:
        smoothing: The share, in [0, 1).
    """

    name: ClassVar[str] = "label_smoothing"
    summary: ClassVar[str] = "spreads a share of the label over all classes (Szegedy et al., 2016)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.label_smoothing.regularizer:LabelSmoothing"
    stage: ClassVar[Stage] = Stage.LABEL
    needs: ClassVar[frozenset[str]] = frozenset({"class_labels"})
    zero: ClassVar[Mapping[str, Any] | None] = {"smoothing": 0.0}
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        check_number(self, "smoothing", 0.0, 1.0, below_high=True)
