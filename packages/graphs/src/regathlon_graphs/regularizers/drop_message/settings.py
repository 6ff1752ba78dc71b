"""Settings of DropMessage."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from regathlon_core.regularizers.checks import check_number
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class DropMessageSettings(RegularizerSettings):
    """DropMessage: entries of the messages that nodes send along edges are dropped.

    Attributes:
        p: Probability that an entry of a message is dropped, in [0, 1].
    """

    name: ClassVar[str] = "drop_message"
    summary: ClassVar[str] = "drops entries of the messages between nodes (Fang et al., 2023)"
    implementation: ClassVar[str] = "regathlon_graphs.regularizers.drop_message.regularizer:DropMessage"
    stage: ClassVar[Stage] = Stage.FEATURE
    needs: ClassVar[frozenset[str]] = frozenset({"edges"})
    zero: ClassVar[Mapping[str, Any] | None] = {"p": 0.0}
    p: float = 0.3

    def __post_init__(self) -> None:
        check_number(self, "p", 0.0, 1.0)
