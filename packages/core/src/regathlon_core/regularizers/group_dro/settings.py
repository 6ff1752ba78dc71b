"""Settings of group distributionally robust optimization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.regularizers.checks import check_number
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class GroupDROSettings(RegularizerSettings):
    """Group distributionally robust optimization (GroupDRO), domains being the groups.

    Attributes:
        eta: Step size of the domains' weights, at least 0; at 0 all domains weigh the same.
    """

    name: ClassVar[str] = "group_dro"
    summary: ClassVar[str] = "weighs the domains with the largest losses most (Sagawa et al., 2020)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.group_dro.regularizer:GroupDRO"
    stage: ClassVar[Stage] = Stage.LOSS
    needs: ClassVar[frozenset[str]] = frozenset({"domains", "sample_labels"})
    eta: float = 0.01

    def __post_init__(self) -> None:
        check_number(self, "eta", 0.0)
