"""Settings of MixStyle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from regathlon_core.regularizers.checks import check_choice, check_number, check_places
from regathlon_core.settings import RegularizerSettings, Stage, TaskSettings

Mix = Literal["random", "crossdomain"]


@dataclass(frozen=True)
class MixStyleSettings(RegularizerSettings):
    """MixStyle: feature statistics of samples are mixed.

    Attributes:
        p: Probability that a place mixes in a step, in [0, 1].
        alpha: Both shapes of the Beta distribution of the weights, above 0.
        mix: Partners from the whole batch (``"random"``) or from other domains (``"crossdomain"``).
        where: Feature points to act at (names or patterns); empty for the earlier half of the task's default ones.
    """

    name: ClassVar[str] = "mixstyle"
    summary: ClassVar[str] = "mixes the feature statistics of samples (Zhou et al., 2021)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.mixstyle.regularizer:MixStyle"
    stage: ClassVar[Stage] = Stage.FEATURE
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    zero: ClassVar[Mapping[str, Any] | None] = {"p": 0.0}
    acting: ClassVar[Mapping[str, Any]] = {"p": 1.0}
    p: float = 0.5
    alpha: float = 0.1
    mix: Mix = "random"
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_number(self, "p", 0.0, 1.0)
        check_number(self, "alpha", 0.0, above_low=True)
        check_choice(self, "mix", ("random", "crossdomain"))
        check_places(self)

    def refusal(self, task: TaskSettings) -> str | None:
        """Return why it cannot run on this task, or None where it can."""
        if not task.provides & {"grid_inputs", "sample_labels"}:
            return f"mixstyle mixes samples, and {task.name} is a single one"
        if self.mix == "crossdomain" and "domains" not in task.provides:
            return (
                f"mixstyle(mix=crossdomain) needs domains, which {task.name} does not offer; use mix=random"
            )
        return super().refusal(task)
