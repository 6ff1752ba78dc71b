"""Settings of Invariant Risk Minimization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from regathlon_core.regularizers.checks import check_choice, check_number
from regathlon_core.settings import RegularizerSettings, Stage

Estimator = Literal["halves", "square"]


@dataclass(frozen=True)
class IRMSettings(RegularizerSettings):
    """Invariant Risk Minimization (IRMv1).

    Attributes:
        weight: Weight of the penalty, at least 0, once it is annealed.
        anneal: Share of the training in which the weight is at most 1 instead, in [0, 1].
        estimator: ``"halves"``, the product of the gradients of a domain's halves, which has no bias, or ``"square"``.
        rescale: Whether a weight above 1 divides the whole loss, so that gradients keep their scale.
    """

    name: ClassVar[str] = "irm"
    summary: ClassVar[str] = "one classifier that is optimal in every domain (Arjovsky et al., 2019)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.irm.regularizer:IRM"
    stage: ClassVar[Stage] = Stage.LOSS
    needs: ClassVar[frozenset[str]] = frozenset({"domains", "class_labels", "sample_labels"})
    zero: ClassVar[Mapping[str, Any] | None] = {"weight": 0.0}
    weight: float = 1.0
    anneal: float = 0.4
    estimator: Estimator = "halves"
    rescale: bool = True

    def __post_init__(self) -> None:
        check_number(self, "weight", 0.0)
        check_number(self, "anneal", 0.0, 1.0)
        check_choice(self, "estimator", ("halves", "square"))
