"""Declaration of the t-SNE evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.settings import EvaluationSettings


@dataclass(frozen=True)
class TsneSettings(EvaluationSettings):
    """t-SNE of the features before the classifier, on test samples (Figure 7 of the DropGraph paper).

    Attributes:
        samples: At most that many, evenly spaced over the split.
        perplexity: Of t-SNE; less where there are few samples.
    """

    name: ClassVar[str] = "tsne"
    summary: ClassVar[str] = "a map of the features before the classifier, coloured by class (t-SNE)"
    implementation: ClassVar[str] = "regathlon_vision.evaluations.tsne.evaluation:Tsne"
    needs: ClassVar[frozenset[str]] = frozenset({"sample_labels", "grid_inputs", "views"})
    samples: int = 2000
    perplexity: float = 30.0

    def __post_init__(self) -> None:
        if self.samples < 5:
            raise UserError(f"{self.name}: samples must be at least 5, not {self.samples}.")
        if not self.perplexity > 0:
            raise UserError(f"{self.name}: perplexity must be above 0, not {self.perplexity}.")
