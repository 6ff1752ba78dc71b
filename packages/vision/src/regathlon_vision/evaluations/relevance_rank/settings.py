"""Declaration of relevance rank accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.settings import EvaluationSettings


@dataclass(frozen=True)
class RelevanceRankSettings(EvaluationSettings):
    """Which share of the most relevant pixels lies on the object.

    Attributes:
        images: Folder below the data root with ``<class>/<name>.<jpg or png>``; classes are the task's.
        annotations: Folder with ``<class>/<name>.png``, masks that are not 0 on the object, or ``<name>.xml``, boxes as
            in Pascal VOC and ImageNet; or these files without the folders of classes.
        samples: Images to take of all, evenly spaced; 0 for all.
        composite: Rules of relevance propagation.
    """

    name: ClassVar[str] = "relevance_rank"
    summary: ClassVar[str] = (
        "relevance rank accuracy: how much relevance lies on the object, by masks or boxes"
    )
    implementation: ClassVar[str] = "regathlon_vision.evaluations.relevance_rank.evaluation:RelevanceRank"
    needs: ClassVar[frozenset[str]] = frozenset({"sample_labels", "grid_inputs", "occlude"})
    images: str = "imagenet/val"
    annotations: str = "imagenet/annotations"
    samples: int = 1000
    composite: str = "epsilon_plus_flat"

    def __post_init__(self) -> None:
        if self.samples < 0:
            raise UserError(f"{self.name}: samples must be at least 0, not {self.samples}.")
