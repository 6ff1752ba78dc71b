"""Settings of Dropout."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from regathlon_core.regularizers.checks import check_number, check_places
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class DropoutSettings(RegularizerSettings):
    """Dropout: every unit is dropped independently.

    Attributes:
        p: Probability that a unit is dropped, in [0, 1].
        where: Feature points to act at; empty for the task's defaults.
    """

    name: ClassVar[str] = "dropout"
    summary: ClassVar[str] = "drops single units (Srivastava et al., 2014)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.dropout.regularizer:Dropout"
    stage: ClassVar[Stage] = Stage.FEATURE
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    zero: ClassVar[Mapping[str, Any] | None] = {"p": 0.0}
    p: float = 0.5
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_number(self, "p", 0.0, 1.0)
        check_places(self)
