"""Settings of SpatialDropout."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from regathlon_core.regularizers.checks import check_choice, check_number, check_places
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class SpatialDropoutSettings(RegularizerSettings):
    """SpatialDropout: whole channels, or whole positions, are dropped.

    Attributes:
        p: Probability that a channel (or position) is dropped, in [0, 1].
        mode: ``"channel"`` drops all positions of a channel, as Tompson et al. do; ``"position"`` all
            channels of a position, as Ke et al. (2021, DropGraph) describe the method.
        where: Feature points to act at; empty for the task's defaults.
    """

    name: ClassVar[str] = "spatial_dropout"
    summary: ClassVar[str] = "drops whole channels or positions (Tompson et al., 2015)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.spatial_dropout.regularizer:SpatialDropout"
    stage: ClassVar[Stage] = Stage.FEATURE
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    zero: ClassVar[Mapping[str, Any] | None] = {"p": 0.0}
    p: float = 0.1
    mode: Literal["channel", "position"] = "channel"
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_number(self, "p", 0.0, 1.0)
        check_choice(self, "mode", ("channel", "position"))
        check_places(self)
