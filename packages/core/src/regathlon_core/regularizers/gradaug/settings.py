"""Settings of GradAug and of the ablations in its paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from regathlon_core.regularizers.checks import check_choice, check_count, check_number
from regathlon_core.settings import RegularizerSettings, Stage, TaskSettings

Labels = Literal["soft", "hard"]


@dataclass(frozen=True)
class GradAugSettings(RegularizerSettings):
    """GradAug: sub-networks of random width, trained on transformed views with soft labels from the full network.

    Attributes:
        n: Number of sub-networks in a step, at least 1.
        alpha: Smallest width, a fraction in (0, 1]. The paper uses 0.8 on CIFAR and 0.9 on ImageNet.
        views: Kinds of random transformation, of those that the task offers; empty for the task's first kind
            (images: random scale, the paper's main choice).
        always_min: Whether a single sub-network has width ``alpha``, as in the authors' code; the paper draws it from
            U(alpha, 1).
        labels: What sub-networks learn: the full network's outputs (``"soft"``) or the labels (``"hard"``), which is an
            ablation but in detection; None for what is usual on the task (``TaskSettings.taught_by``).
        sub_statistics: Whether sub-networks move batch-norm's running statistics, too: an ablation that ruins
            evaluation, as the paper says (section 3.1).
        divisor: Sub-networks keep multiples of this many channels, at least 1. 8 or 16 suits tensor cores and the vector
            units of CPUs.
    """

    name: ClassVar[str] = "gradaug"
    summary: ClassVar[str] = "sub-networks of random width on transformed views, taught by the full network"
    implementation: ClassVar[str] = "regathlon_core.regularizers.gradaug.regularizer:GradAug"
    stage: ClassVar[Stage] = Stage.LOSS
    needs: ClassVar[frozenset[str]] = frozenset({"views", "soft_loss"})
    n: int = 3
    alpha: float = 0.8
    views: tuple[str, ...] = ()
    always_min: bool = False
    labels: Labels | None = None
    sub_statistics: bool = False
    divisor: int = 1

    def __post_init__(self) -> None:
        check_count(self, "n")
        check_count(self, "divisor")
        check_number(self, "alpha", 0.0, 1.0, above_low=True)
        if self.labels is not None:
            check_choice(self, "labels", get_args(Labels))

    def refusal(self, task: TaskSettings) -> str | None:
        """Return why it cannot run on this task, or None where it can."""
        return super().refusal(task) or _missing_views(self.name, self.views, task)


@dataclass(frozen=True)
class _ViewsOnlySettings(RegularizerSettings):
    stage: ClassVar[Stage] = Stage.LOSS
    needs: ClassVar[frozenset[str]] = frozenset({"views", "soft_loss"})
    kinds: ClassVar[tuple[str, ...]]
    n: int = 3

    def __post_init__(self) -> None:
        check_count(self, "n")

    def refusal(self, task: TaskSettings) -> str | None:
        """Return why it cannot run on this task, or None where it can."""
        return super().refusal(task) or _missing_views(self.name, self.kinds, task)


@dataclass(frozen=True)
class RandScaleSettings(_ViewsOnlySettings):
    """GradAug's loop with the full network in place of the sub-networks, on randomly scaled views (Table 4)."""

    name: ClassVar[str] = "rand_scale"
    summary: ClassVar[str] = "GradAug's ablation: random scale without sub-networks"
    implementation: ClassVar[str] = "regathlon_core.regularizers.gradaug.regularizer:RandScale"
    kinds: ClassVar[tuple[str, ...]] = ("scale",)


@dataclass(frozen=True)
class RandRotSettings(_ViewsOnlySettings):
    """GradAug's loop with the full network in place of the sub-networks, on randomly rotated views."""

    name: ClassVar[str] = "rand_rot"
    summary: ClassVar[str] = "GradAug's ablation: random rotation without sub-networks"
    implementation: ClassVar[str] = "regathlon_core.regularizers.gradaug.regularizer:RandRot"
    kinds: ClassVar[tuple[str, ...]] = ("rotation",)


@dataclass(frozen=True)
class RandWidthSettings(RegularizerSettings):
    """GradAug's loop with sub-networks of random width on the batch as it is (Table 4).

    Attributes:
        n: Number of sub-networks in a step.
        alpha: Smallest width, a fraction in (0, 1].
        divisor: Sub-networks keep multiples of this many channels, at least 1.
    """

    name: ClassVar[str] = "rand_width"
    summary: ClassVar[str] = "GradAug's ablation: sub-networks of random width without transformed views"
    implementation: ClassVar[str] = "regathlon_core.regularizers.gradaug.regularizer:RandWidth"
    stage: ClassVar[Stage] = Stage.LOSS
    needs: ClassVar[frozenset[str]] = frozenset({"views", "soft_loss"})
    n: int = 3
    alpha: float = 0.8
    divisor: int = 1

    def __post_init__(self) -> None:
        check_count(self, "n")
        check_count(self, "divisor")
        check_number(self, "alpha", 0.0, 1.0, above_low=True)


@dataclass(frozen=True)
class RandDepthSettings(RegularizerSettings):
    """GradAug's loop with sub-networks of random depth (Table 6).

    Attributes:
        n: Number of sub-networks in a step.
        p: Probability that a sub-network leaves out the last residual block, in [0, 1]; it rises linearly from 0
            at the first one. The authors' code uses 0.2.
        views: Kinds of random transformation, of those that the task offers; empty for the task's first kind.
    """

    name: ClassVar[str] = "rand_depth"
    summary: ClassVar[str] = "GradAug's ablation: sub-networks of random depth on transformed views"
    implementation: ClassVar[str] = "regathlon_core.regularizers.gradaug.regularizer:RandDepth"
    stage: ClassVar[Stage] = Stage.LOSS
    needs: ClassVar[frozenset[str]] = frozenset({"residual", "soft_loss", "views"})
    n: int = 3
    p: float = 0.2
    views: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_count(self, "n")
        check_number(self, "p", 0.0, 1.0)

    def refusal(self, task: TaskSettings) -> str | None:
        """Return why it cannot run on this task, or None where it can."""
        return super().refusal(task) or _missing_views(self.name, self.views, task)


def _missing_views(name: str, wanted: tuple[str, ...], task: TaskSettings) -> str | None:
    missing = [kind for kind in wanted if kind not in task.views]
    if missing:
        offered = ", ".join(task.views) or "none"
        return f"{name} needs {' and '.join(missing)} views; {task.name} offers {offered}"
    return None
