"""Declaration of the sparsity of channels' relevance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.settings import EvaluationSettings


@dataclass(frozen=True)
class ChannelSparsitySettings(EvaluationSettings):
    """How unevenly relevance is spread over the channels of each layer.

    Attributes:
        layers: Names of modules with channels second; empty for the model's default feature points.
        samples: Test samples to take, spread evenly over the split; 0 for all.
        composite: Rules of relevance propagation.
    """

    name: ClassVar[str] = "channel_sparsity"
    version: ClassVar[int] = 2
    summary: ClassVar[str] = "how few channels of each layer hold the relevance"
    implementation: ClassVar[str] = "regathlon_core.evaluations.channel_sparsity.evaluation:ChannelSparsity"
    needs: ClassVar[frozenset[str]] = frozenset({"occlude", "sample_labels", "features"})

    layers: tuple[str, ...] = ()
    samples: int = 256
    composite: str = "epsilon_plus_flat"

    def __post_init__(self) -> None:
        if self.samples < 0:
            raise UserError(f"channel_sparsity: samples must be at least 0, not {self.samples}.")
