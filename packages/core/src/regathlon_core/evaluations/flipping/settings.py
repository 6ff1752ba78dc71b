"""Declaration of flipping curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from regathlon_core.errors import UserError, unknown
from regathlon_core.settings import EvaluationSettings

Attribution = Literal["lrp", "gradient_x_input"]


@dataclass(frozen=True)
class FlippingSettings(EvaluationSettings):
    """How the true class's probability falls when positions are occluded in the order of their relevance.

    Attributes:
        samples: Test samples to take, spread evenly over the split; 0 for all.
        steps: Equal portions in which positions go.
        attribution: What says the relevance: ``"lrp"`` or ``"gradient_x_input"``.
        composite: Rules of ``"lrp"``.
    """

    name: ClassVar[str] = "flipping"
    version: ClassVar[int] = 2
    summary: ClassVar[str] = (
        "flipping curves: positions go by relevance, and the true class's probability with them"
    )
    implementation: ClassVar[str] = "regathlon_core.evaluations.flipping.evaluation:Flipping"
    needs: ClassVar[frozenset[str]] = frozenset({"occlude", "sample_labels"})

    samples: int = 256
    steps: int = 20
    attribution: Attribution = "lrp"
    composite: str = "epsilon_plus_flat"

    def __post_init__(self) -> None:
        if self.samples < 0 or self.steps < 1:
            raise UserError(
                f"flipping needs samples of at least 0 and steps of at least 1, "
                f"not {self.samples} and {self.steps}."
            )
        if self.attribution not in get_args(Attribution):
            raise unknown("attribution", self.attribution, get_args(Attribution))
