"""Settings of Disout."""

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
class DisoutSettings(RegularizerSettings):
    """Disout: blocks of feature maps are replaced by noise as large as the next layer's weights make it.

    Attributes:
        p: Share of units to distort at full strength, in [0, 1].
        alpha: Strength of the distortion, at least 0. The authors use 5 on CIFAR and 1 on ImageNet.
        block_size: Side of a block in positions, at least 1; cut to the map's side where that is smaller.
        schedule: ``"linear"`` raises the share from 0 to ``p`` over the training; ``"constant"`` keeps it.
        group_rates: Share of ``p`` in each of the groups of places that it acts in, in the model's order; empty for all of
            it everywhere.
        where: Feature points or placements to act at; empty for the task's defaults.
    """

    name: ClassVar[str] = "disout"
    summary: ClassVar[str] = "distorts blocks of feature maps by the next layer's weights (Tang et al., 2020)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.disout.regularizer:Disout"
    stage: ClassVar[Stage] = Stage.FEATURE
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    zero: ClassVar[Mapping[str, Any] | None] = {"p": 0.0}
    acting: ClassVar[Mapping[str, Any]] = {"p": 0.3, "block_size": 2}
    p: float = 0.09
    alpha: float = 5.0
    block_size: int = 6
    schedule: Literal["linear", "constant"] = "linear"
    group_rates: tuple[float, ...] = ()
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_number(self, "p", 0.0, 1.0)
        check_number(self, "alpha", 0.0)
        check_count(self, "block_size")
        check_choice(self, "schedule", ("linear", "constant"))
        check_places(self)
        check_rates(self)
