"""Settings of weight averaging."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from regathlon_core.regularizers.checks import check_count, check_number
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class WeightAverageSettings(RegularizerSettings):
    """Weight averaging along the training (EoA's simple moving average, dense SWA).

    Attributes:
        start: Share of the training after which averaging begins, in [0, 1).
        every: Steps from one set of weights that counts to the next, at least 1.
    """

    name: ClassVar[str] = "weight_average"
    summary: ClassVar[str] = "evaluates the mean of the weights along the training (Arpit et al., 2022)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.weight_average.regularizer:WeightAverage"
    stage: ClassVar[Stage] = Stage.FEATURE
    # The training itself is the plain one at all settings.
    zero: ClassVar[Mapping[str, Any] | None] = {}
    start: float = 0.02
    every: int = 1

    def __post_init__(self) -> None:
        check_number(self, "start", 0.0, 1.0, below_high=True)
        check_count(self, "every")
