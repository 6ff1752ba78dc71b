"""Settings of partial graph reasoning."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from regathlon_core.regularizers.checks import check_choice, check_count, check_number, check_places
from regathlon_core.regularizers.dropgraph.settings import Adjacency
from regathlon_core.settings import RegularizerSettings, Stage

Sample = Literal["random", "top"]


@dataclass(frozen=True)
class PartialGraphSettings(RegularizerSettings):
    """Partial graph reasoning: a share of the positions is replaced by a graph convolution of these positions.

    Attributes:
        alpha: Share of positions that are replaced, in [0, 1].
        sample: Which: ``"random"`` ones, or the ``"top"`` ones by the sum of their absolute activations.
        inference: Whether it acts in evaluation too, while it is attached; then it is a part of the model rather than a
            regularizer, as in Table 1's columns "Train&Inf.". Random positions are then the same in every pass.
        adjacency: Of the graph, as in DropGraph.
        max_vertices: Largest number of positions replaced; the cost is quadratic in it.
        where: Placements, names or patterns of feature points to act at; empty for the task's default ones.
    """

    name: ClassVar[str] = "partial_graph"
    summary: ClassVar[str] = "sampled feature vectors replaced by a graph convolution of them"
    implementation: ClassVar[str] = "regathlon_core.regularizers.partial_graph.regularizer:PartialGraph"
    stage: ClassVar[Stage] = Stage.FEATURE
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    zero: ClassVar[Mapping[str, Any] | None] = {"alpha": 0.0}
    acting: ClassVar[Mapping[str, Any]] = {"alpha": 0.5}
    alpha: float = 0.25
    sample: Sample = "random"
    inference: bool = False
    adjacency: Literal["dissimilarity", "similarity", "identity", "uniform"] = "dissimilarity"
    max_vertices: int = 1024
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_number(self, "alpha", 0.0, 1.0)
        check_count(self, "max_vertices")
        check_choice(self, "sample", get_args(Sample))
        check_choice(self, "adjacency", [kind for kind in get_args(Adjacency) if kind != "learned"])
        check_places(self)
