"""Settings of ShakeDrop."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from regathlon_core.regularizers.checks import check_choice, check_number
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class ShakeDropSettings(RegularizerSettings):
    """ShakeDrop: residual branches are multiplied by random factors, other ones forward than backward.

    Attributes:
        p: Probability that the last block's branch is shaken, in [0, 1).
        decay: ``"linear"`` shakes block l of L with probability p·l/L; ``"uniform"`` every block with ``p``.
    """

    name: ClassVar[str] = "shakedrop"
    summary: ClassVar[str] = "shakes residual branches, forward and backward (Yamada et al., 2019)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.shakedrop.regularizer:ShakeDrop"
    stage: ClassVar[Stage] = Stage.FEATURE
    needs: ClassVar[frozenset[str]] = frozenset({"residual"})
    zero: ClassVar[Mapping[str, Any] | None] = {"p": 0.0}
    p: float = 0.5
    decay: Literal["linear", "uniform"] = "linear"

    def __post_init__(self) -> None:
        check_number(self, "p", 0.0, 1.0, below_high=True)
        check_choice(self, "decay", ("linear", "uniform"))
