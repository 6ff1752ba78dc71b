"""Settings of Cutout."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from regathlon_core.regularizers.checks import check_number
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class CutoutSettings(RegularizerSettings):
    """Cutout: one square of every input is blanked.

    Attributes:
        size: Side of the square as a share of the input's shortest side, at least 0; 0.5 is the paper's 16 of
            32 pixels for CIFAR-10.
        fill: Value written; 0 is the mean of normalised inputs.
    """

    name: ClassVar[str] = "cutout"
    summary: ClassVar[str] = "blanks a square of every input (DeVries & Taylor, 2017)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.cutout.regularizer:Cutout"
    stage: ClassVar[Stage] = Stage.INPUT
    needs: ClassVar[frozenset[str]] = frozenset({"grid_inputs"})
    zero: ClassVar[Mapping[str, Any] | None] = {"size": 0.0}
    size: float = 0.5
    fill: float = 0.0

    def __post_init__(self) -> None:
        check_number(self, "size", 0.0)
        check_number(self, "fill", float("-inf"))
