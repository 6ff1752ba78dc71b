"""Settings of MLDG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.regularizers.checks import check_number
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class MLDGSettings(RegularizerSettings):
    """Meta-learning for domain generalization (MLDG).

    Attributes:
        lr: Size of the virtual step, at least 0.
        beta: Weight of the held-out domain's loss, at least 0.
        first_order: Whether the virtual step's gradient is taken as a constant: cheaper, as in DomainBed.
    """

    name: ClassVar[str] = "mldg"
    summary: ClassVar[str] = "a step on some domains should help the one held out (Li et al., 2018)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.mldg.regularizer:MLDG"
    stage: ClassVar[Stage] = Stage.LOSS
    needs: ClassVar[frozenset[str]] = frozenset({"domains", "sample_labels"})
    lr: float = 0.01
    beta: float = 1.0
    first_order: bool = False

    def __post_init__(self) -> None:
        check_number(self, "lr", 0.0)
        check_number(self, "beta", 0.0)
