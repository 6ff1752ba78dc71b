"""Declaration of the pictures of where full and sub-network look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.settings import EvaluationSettings


@dataclass(frozen=True)
class SubNetworkMapsSettings(EvaluationSettings):
    """Heat maps of test images, of the full network and of a sub-network (Figure 1 of the GradAug paper).

    Attributes:
        width: Of the sub-network, a fraction in (0, 1).
        images: How many.
        place: Feature point whose map is weighed; empty for the last of the model's default ones.
    """

    name: ClassVar[str] = "sub_network_maps"
    summary: ClassVar[str] = "pictures of where full network and sub-network look, and how alike they are"
    implementation: ClassVar[str] = "regathlon_vision.evaluations.sub_network_maps.evaluation:SubNetworkMaps"
    needs: ClassVar[frozenset[str]] = frozenset({"sample_labels", "grid_inputs", "features", "views"})
    width: float = 0.8
    images: int = 8
    place: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.width < 1:
            raise UserError(f"{self.name}: width lies between 0 and 1, not {self.width}.")
        if self.images < 1:
            raise UserError(f"{self.name}: images must be at least 1, not {self.images}.")
