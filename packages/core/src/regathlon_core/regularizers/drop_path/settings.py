"""Settings of DropPath."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from regathlon_core.regularizers.checks import check_choice, check_number
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class DropPathSettings(RegularizerSettings):
    """DropPath: residual branches are left out for single samples.

    Attributes:
        p: Probability that the last block's branch is dropped, in [0, 1).
        decay: ``"linear"`` drops block l of L with probability p·l/L; ``"uniform"`` drops every block with ``p``.
    """

    name: ClassVar[str] = "drop_path"
    summary: ClassVar[str] = "drops residual branches for single samples (Larsson et al., 2017)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.drop_path.regularizer:DropPath"
    stage: ClassVar[Stage] = Stage.FEATURE
    needs: ClassVar[frozenset[str]] = frozenset({"residual"})
    zero: ClassVar[Mapping[str, Any] | None] = {"p": 0.0}
    acting: ClassVar[Mapping[str, Any]] = {"p": 0.4}
    p: float = 0.1
    decay: Literal["linear", "uniform"] = "linear"

    def __post_init__(self) -> None:
        check_number(self, "p", 0.0, 1.0, below_high=True)
        check_choice(self, "decay", ("linear", "uniform"))
