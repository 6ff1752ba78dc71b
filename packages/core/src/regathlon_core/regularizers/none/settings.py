"""Settings of no regularizer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from regathlon_core.settings import RegularizerSettings, Stage


@dataclass(frozen=True)
class NoRegularizerSettings(RegularizerSettings):
    """No regularizer: the task's own loss and nothing else."""

    name: ClassVar[str] = "none"
    summary: ClassVar[str] = "the plain model: what the others are compared with"
    implementation: ClassVar[str] = "regathlon_core.regularizers.none.regularizer:NoRegularizer"
    stage: ClassVar[Stage] = Stage.INPUT
    zero: ClassVar[Mapping[str, Any] | None] = {}
