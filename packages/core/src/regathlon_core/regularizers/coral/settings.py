"""Settings of CORAL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from regathlon_core.regularizers.checks import check_number, check_places
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class CORALSettings(RegularizerSettings):
    """CORAL: the features of all domains should have the same covariance, and mean.

    Attributes:
        weight: Weight of the penalty, at least 0.
        means: Whether means are aligned too (DomainBed), or covariances alone (the paper).
        where: Feature points whose features are aligned; empty for the task's last default one.
    """

    name: ClassVar[str] = "coral"
    summary: ClassVar[str] = "aligns the feature statistics of domains (Sun and Saenko, 2016)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.coral.regularizer:CORAL"
    stage: ClassVar[Stage] = Stage.LOSS
    needs: ClassVar[frozenset[str]] = frozenset({"domains", "features", "sample_labels"})
    zero: ClassVar[Mapping[str, Any] | None] = {"weight": 0.0}
    weight: float = 1.0
    means: bool = True
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_number(self, "weight", 0.0)
        check_places(self)
