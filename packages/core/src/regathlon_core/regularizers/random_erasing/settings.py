"""Settings of Random Erasing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from regathlon_core.regularizers.checks import check_interval, check_number
from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class RandomErasingSettings(RegularizerSettings):
    """Random Erasing: a rectangle of random area and aspect is blanked in some inputs.

    Attributes:
        p: Probability that an input is erased, in [0, 1].
        area: Smallest and largest share of the input, within (0, 1].
        aspect: Smallest and largest height over width, above 0.
        log_aspect: Whether aspects are uniform in the logarithm, so that tall is as likely as wide.
        fill: Value written; 0 is the mean of normalised inputs.
    """

    name: ClassVar[str] = "random_erasing"
    summary: ClassVar[str] = "blanks a random rectangle in some inputs (Zhong et al., 2020)"
    implementation: ClassVar[str] = "regathlon_core.regularizers.random_erasing.regularizer:RandomErasing"
    stage: ClassVar[Stage] = Stage.INPUT
    needs: ClassVar[frozenset[str]] = frozenset({"grid_inputs"})
    zero: ClassVar[Mapping[str, Any] | None] = {"p": 0.0}
    p: float = 0.5
    area: tuple[float, float] = (0.02, 0.4)
    aspect: tuple[float, float] = (0.3, 1 / 0.3)
    log_aspect: bool = False
    fill: float = 0.0

    def __post_init__(self) -> None:
        check_number(self, "p", 0.0, 1.0)
        check_interval(self, "area", 0.0, 1.0)
        check_interval(self, "aspect", 0.0, math.inf)
        check_number(self, "fill", -math.inf)
