"""Settings of Representation Self-Challenging."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from regathlon_core.regularizers.checks import check_choice, check_number, check_places
from regathlon_core.settings import RegularizerSettings, Stage

Variant = Literal["map", "pooled"]
Mode = Literal["random", "spatial", "channel"]
Schedule = Literal["constant", "curriculum"]


@dataclass(frozen=True)
class RSCSettings(RegularizerSettings):
    """Representation Self-Challenging (RSC).

    Attributes:
        variant: ``"map"``, the authors' masks over positions or channels of a feature map, or ``"pooled"``, DomainBed's
            masks over pooled features.
        mode: For ``"map"``: mute positions, channels, or toss a coin for it in every step.
        spatial: Share of the positions that are muted, in [0, 1).
        channel: Share of the channels that are muted, in [0, 1); None for 1/3.2 (``"map"``) or 1/3 (``"pooled"``), as
            their codes have it.
        samples: Share of the samples that are muted, in [0, 1]; those that lose most by it.
        schedule: ``"constant"``, or ``"curriculum"``: 0.3, 0.5 and 0.7 of the samples in the thirds of the training,
            whatever ``samples`` says.
        where: The one feature point to act at (a name or a pattern); empty for the task's last default one.
    """

    name: ClassVar[str] = "rsc"
    summary: ClassVar[str] = "mutes the features that the true class leans on most (Huang et al., 2020)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.rsc.regularizer:RSC"
    stage: ClassVar[Stage] = Stage.FEATURE
    needs: ClassVar[frozenset[str]] = frozenset({"features", "class_labels", "sample_labels"})
    zero: ClassVar[Mapping[str, Any] | None] = {"samples": 0.0}
    acting: ClassVar[Mapping[str, Any]] = {"samples": 1.0}
    variant: Variant = "map"
    mode: Mode = "random"
    spatial: float = 1 / 3
    channel: float | None = None
    samples: float = 1 / 3
    schedule: Schedule = "constant"
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice(self, "variant", ("map", "pooled"))
        check_choice(self, "mode", ("random", "spatial", "channel"))
        check_choice(self, "schedule", ("constant", "curriculum"))
        check_number(self, "spatial", 0.0, 1.0, below_high=True)
        if self.channel is not None:
            check_number(self, "channel", 0.0, 1.0, below_high=True)
        check_number(self, "samples", 0.0, 1.0)
        check_places(self)
