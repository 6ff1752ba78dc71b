"""Settings of Grand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from regathlon_core.regularizers.checks import check_count, check_number
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class GrandSettings(RegularizerSettings):
    """GRAND-like random propagation: predictions are to agree over graphs with different nodes dropped.

    Attributes:
        p: Probability that a node's features are dropped, in [0, 1].
        views: Graphs with nodes dropped that a step sees, at least 1 (S in the paper).
        weight: Of the consistency in the loss, at least 0 (lambda).
        temperature: Sharpens the average prediction, above 0 (T).
    """

    name: ClassVar[str] = "grand"
    summary: ClassVar[str] = "consistent predictions over graphs with dropped nodes (Feng et al., 2020)"
    implementation: ClassVar[str] = "regathlon_graphs.regularizers.grand.regularizer:Grand"
    stage: ClassVar[Stage] = Stage.LOSS
    needs: ClassVar[frozenset[str]] = frozenset({"edges", "class_labels"})
    zero: ClassVar[Mapping[str, Any] | None] = None
    acting: ClassVar[Mapping[str, Any]] = {"views": 2}
    p: float = 0.5
    views: int = 4
    weight: float = 1.0
    temperature: float = 0.5

    def __post_init__(self) -> None:
        check_number(self, "p", 0.0, 1.0)
        check_count(self, "views")
        check_number(self, "weight", 0.0)
        check_number(self, "temperature", 0.0, above_low=True)
