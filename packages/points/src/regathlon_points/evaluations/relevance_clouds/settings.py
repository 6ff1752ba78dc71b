"""Declaration of pictures of clouds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.settings import EvaluationSettings


@dataclass(frozen=True)
class RelevanceCloudsSettings(EvaluationSettings):
    """Test clouds, coloured by the relevance of their points to the true class.

    Attributes:
        clouds: How many, evenly spaced over the split.
        composite: Rules of relevance propagation.
    """

    name: ClassVar[str] = "relevance_clouds"
    summary: ClassVar[str] = "pictures of point clouds, coloured by relevance to the true class (LRP)"
    implementation: ClassVar[str] = "regathlon_points.evaluations.relevance_clouds.evaluation:RelevanceClouds"
    needs: ClassVar[frozenset[str]] = frozenset({"sample_labels", "point_inputs", "occlude"})
    clouds: int = 8
    composite: str = "epsilon_plus_flat"

    def __post_init__(self) -> None:
        if self.clouds < 1:
            raise UserError(f"{self.name}: clouds must be at least 1, not {self.clouds}.")
