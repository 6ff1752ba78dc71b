"""What models there are and what can be set about them; imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.settings import ModelSettings


@dataclass(frozen=True)
class PointNetSettings(ModelSettings):
    """PointNet.

    Attributes:
        width: Factor on the channels of every hidden layer; 1 is the published network.
        transform: Whether the input transform (a T-Net) turns the cloud first.
        dropout: Rate of the dropout before the last layer, as published 0.3; 0 leaves it to the regularizers.
    """

    name: ClassVar[str] = "pointnet"
    summary: ClassVar[str] = "PointNet: a shared MLP on every point, and their maximum"
    implementation: ClassVar[str] = "regathlon_points.models.pointnet:build_pointnet"
    width: float = 0.25
    transform: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.width) and self.width > 0):
            raise UserError(
                f"pointnet: width is a factor above 0 (1 is the published network), not {self.width}."
            )
        if not 0 <= self.dropout < 1:
            raise UserError(f"pointnet: dropout is a rate in [0, 1), not {self.dropout}.")
