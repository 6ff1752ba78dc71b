"""Settings of DropEdge."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from regathlon_core.regularizers.checks import check_number
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class DropEdgeSettings(RegularizerSettings):
    """DropEdge: every step sees the graph without a random part of its edges.

    Attributes:
        p: Probability that an edge is dropped, in [0, 1].
    """

    name: ClassVar[str] = "drop_edge"
    summary: ClassVar[str] = "drops edges anew in every step (Rong et al., 2020)"
    implementation: ClassVar[str] = "regathlon_graphs.regularizers.drop_edge.regularizer:DropEdge"
    stage: ClassVar[Stage] = Stage.INPUT
    needs: ClassVar[frozenset[str]] = frozenset({"edges"})
    zero: ClassVar[Mapping[str, Any] | None] = {"p": 0.0}
    p: float = 0.3

    def __post_init__(self) -> None:
        check_number(self, "p", 0.0, 1.0)
