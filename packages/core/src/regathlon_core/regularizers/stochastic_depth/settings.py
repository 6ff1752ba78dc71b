"""Settings of stochastic depth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from regathlon_core.regularizers.checks import check_choice, check_number
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class StochasticDepthSettings(RegularizerSettings):
    """Stochastic depth: residual branches are left out for a whole batch.

    Attributes:
        p: Probability that the last block's branch is dropped, in [0, 1).
        decay: ``"linear"`` drops block l of L with probability p·l/L; ``"uniform"`` drops every block with ``p``.
    """

    name: ClassVar[str] = "stochastic_depth"
    summary: ClassVar[str] = "drops residual branches for a whole batch (Huang et al., 2016)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.stochastic_depth.regularizer:StochasticDepth"
    stage: ClassVar[Stage] = Stage.FEATURE
    needs: ClassVar[frozenset[str]] = frozenset({"residual"})
    zero: ClassVar[Mapping[str, Any] | None] = {"p": 0.0}
    p: float = 0.5
    decay: Literal["linear", "uniform"] = "linear"

    def __post_init__(self) -> None:
        check_number(self, "p", 0.0, 1.0, below_high=True)
        check_choice(self, "decay", ("linear", "uniform"))
