"""Settings of Mixup across domains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from regathlon_core.regularizers.checks import check_number
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class MixupDomainsSettings(RegularizerSettings):
    """Mixup across domains: samples of two domains and their labels are averaged.

    Attributes:
        alpha: Both shapes of the Beta distribution of the weight, at least 0; 0 never mixes, 1 mixes evenly.
    """

    name: ClassVar[str] = "mixup_domains"
    summary: ClassVar[str] = "averages samples and labels of different domains (Yan et al., 2020)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.mixup_domains.regularizer:MixupDomains"
    stage: ClassVar[Stage] = Stage.MIX
    needs: ClassVar[frozenset[str]] = frozenset({"domains", "grid_inputs", "sample_labels"})
    zero: ClassVar[Mapping[str, Any] | None] = {"alpha": 0.0}
    alpha: float = 0.2

    def __post_init__(self) -> None:
        check_number(self, "alpha", 0.0)
