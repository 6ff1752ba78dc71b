"""Declaration of robustness to occlusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.settings import EvaluationSettings


@dataclass(frozen=True)
class OcclusionSettings(EvaluationSettings):
    """Accuracy on inputs parts of which are occluded: at random, and where they are most relevant.

    Attributes:
        shares: Shares of the positions to occlude, each in (0, 1).
        samples: Test samples to take, spread evenly over the split; 0 for all.
        relevant: Whether to occlude around the most relevant position too.
        composite: Rules of relevance propagation.
    """

    name: ClassVar[str] = "occlusion"
    version: ClassVar[int] = 2
    summary: ClassVar[str] = "accuracy on occluded inputs: blocks of images, points, tokens"
    implementation: ClassVar[str] = "regathlon_core.evaluations.occlusion.evaluation:Occlusion"
    needs: ClassVar[frozenset[str]] = frozenset({"occlude", "sample_labels"})

    shares: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5)
    samples: int = 0
    relevant: bool = True
    composite: str = "epsilon_plus_flat"

    def __post_init__(self) -> None:
        if not self.shares or not all(0 < share < 1 for share in self.shares):
            raise UserError(f"occlusion: shares lie in (0, 1), at least one; not {list(self.shares)}.")
        if self.samples < 0:
            raise UserError(f"occlusion: samples must be at least 0, not {self.samples}.")
