"""Settings of DropNode."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from regathlon_core.regularizers.checks import check_number
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class DropNodeSettings(RegularizerSettings):
    """DropNode: the features of random nodes are dropped as a whole.

    Attributes:
        p: Probability that a node's features is dropped, in [0, 1].
    """

    name: ClassVar[str] = "drop_node"
    summary: ClassVar[str] = "drops all features of random nodes (Feng et al., 2020)"
    implementation: ClassVar[str] = "regathlon_graphs.regularizers.drop_node.regularizer:DropNode"
    stage: ClassVar[Stage] = Stage.INPUT
    needs: ClassVar[frozenset[str]] = frozenset({"edges"})
    zero: ClassVar[Mapping[str, Any] | None] = {"p": 0.0}
    p: float = 0.5

    def __post_init__(self) -> None:
        check_number(self, "p", 0.0, 1.0)
