"""Settings of CutMix."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from regathlon_core.regularizers.checks import check_number
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class CutMixSettings(RegularizerSettings):
    """CutMix: a box of every sample comes from another one, and a share of the label with it.

    Attributes:
        p: Probability that a batch is mixed, in [0, 1].
        alpha: Both shapes of the Beta distribution of the kept share, above 0.
    """

    name: ClassVar[str] = "cutmix"
    summary: ClassVar[str] = "pastes a box of another sample, labels in proportion (Yun et al., 2019)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.cutmix.regularizer:CutMix"
    stage: ClassVar[Stage] = Stage.MIX
    needs: ClassVar[frozenset[str]] = frozenset({"grid_inputs", "sample_labels"})
    zero: ClassVar[Mapping[str, Any] | None] = {"p": 0.0}
    p: float = 1.0
    alpha: float = 1.0

    def __post_init__(self) -> None:
        check_number(self, "p", 0.0, 1.0)
        check_number(self, "alpha", 0.0, above_low=True)
