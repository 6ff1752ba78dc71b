"""Settings of GradAug-semi."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.regularizers.checks import check_number
from regathlon_core.regularizers.gradaug.settings import GradAugSettings


@dataclass(frozen=True)
class GradAugSemiSettings(GradAugSettings):
    """GradAug-semi: GradAug's step, and the same lessons on unlabelled samples.

    Attributes:
        n: Number of sub-networks in a step, for labelled and for unlabelled samples each, at least 1.
        unlabelled: Unlabelled samples in a step per labelled one, at least 0.
    """

    name: ClassVar[str] = "gradaug_semi"
    summary: ClassVar[str] = "GradAug whose sub-networks also learn from unlabelled samples"
    implementation: ClassVar[str] = "regathlon_core.regularizers.gradaug_semi.regularizer:GradAugSemi"
    needs: ClassVar[frozenset[str]] = GradAugSettings.needs | {"unlabelled"}
    unlabelled: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "unlabelled", 0.0)
