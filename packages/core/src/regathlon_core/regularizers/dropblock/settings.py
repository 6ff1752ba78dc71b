"""Settings of DropBlock."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from regathlon_core.regularizers.checks import (
    check_choice,
    check_count,
    check_number,
    check_places,
    check_rates,
)
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class DropBlockSettings(RegularizerSettings):
    """DropBlock: contiguous blocks of feature maps are dropped.

    Attributes:
        p: Share of units to drop at full strength, in [0, 1].
        block_size: Side of a block in positions, at least 1; cut to the map's side where that is smaller.
        schedule: ``"linear"`` raises the share from 0 to ``p`` over the training; ``"constant"`` keeps it.
        per_channel: Whether every channel has blocks of its own; else all channels of a sample share them.
        group_rates: Share of ``p`` in each of the groups of places that it acts in, in the model's order; empty for all of
            it everywhere.
        where: Feature points or placements to act at; empty for the task's defaults.
    """

    name: ClassVar[str] = "dropblock"
    summary: ClassVar[str] = "drops contiguous blocks of feature maps (Ghiasi et al., 2018)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.dropblock.regularizer:DropBlock"
    stage: ClassVar[Stage] = Stage.FEATURE
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    zero: ClassVar[Mapping[str, Any] | None] = {"p": 0.0}
    p: float = 0.1
    block_size: int = 7
    schedule: Literal["linear", "constant"] = "linear"
    per_channel: bool = True
    group_rates: tuple[float, ...] = ()
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_number(self, "p", 0.0, 1.0)
        check_count(self, "block_size")
        check_choice(self, "schedule", ("linear", "constant"))
        check_places(self)
        check_rates(self)
