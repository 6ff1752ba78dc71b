"""Declaration of heat maps of relevance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.settings import EvaluationSettings


@dataclass(frozen=True)
class HeatMapsSettings(EvaluationSettings):
    """Test images and the relevance of their pixels to the true class.

    Attributes:
        images: How many, evenly spaced over the split.
        composite: Rules of relevance propagation.
    """

    name: ClassVar[str] = "heat_maps"
    summary: ClassVar[str] = "pictures of pixels' relevance to the true class (LRP)"
    implementation: ClassVar[str] = "regathlon_vision.evaluations.heat_maps.evaluation:HeatMaps"
    needs: ClassVar[frozenset[str]] = frozenset({"sample_labels", "grid_inputs", "occlude"})
    images: int = 8
    composite: str = "epsilon_plus_flat"

    def __post_init__(self) -> None:
        if self.images < 1:
            raise UserError(f"{self.name}: images must be at least 1, not {self.images}.")
