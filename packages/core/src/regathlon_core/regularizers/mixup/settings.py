"""Settings of Mixup."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from regathlon_core.regularizers.checks import check_number
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class MixupSettings(RegularizerSettings):
    """Mixup: pairs of samples and their labels are averaged.

    Attributes:
        alpha: Both shapes of the Beta distribution of the weight, at least 0; 0 never mixes, 1 mixes evenly.
    """

    name: ClassVar[str] = "mixup"
    summary: ClassVar[str] = "averages pairs of samples and labels (Zhang et al., 2018)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.mixup.regularizer:Mixup"
    stage: ClassVar[Stage] = Stage.MIX
    needs: ClassVar[frozenset[str]] = frozenset({"grid_inputs", "sample_labels"})
    zero: ClassVar[Mapping[str, Any] | None] = {"alpha": 0.0}
    alpha: float = 0.2

    def __post_init__(self) -> None:
        check_number(self, "alpha", 0.0)
