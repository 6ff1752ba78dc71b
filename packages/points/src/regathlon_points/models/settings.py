"""What models there are and what can be set about them; imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from regathlon_core.errors import UserError, unknown
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
    citation: ClassVar[str] = "qi2017pointnet"
    implementation: ClassVar[str] = "regathlon_points.models.pointnet:build_pointnet"
    width: float = 0.25
    transform: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check(self)


Grouping = Literal["single", "multi"]
"""Balls of one size around every centre (SSG), or of three (MSG)."""


@dataclass(frozen=True)
class PointNet2Settings(ModelSettings):
    """PointNet++.

    Attributes:
        grouping: ``"single"``: balls of one size (SSG); ``"multi"``: of three (MSG).
        width: Factor on the channels of every hidden layer; 1 is the published network.
        dropout: Rate of the dropout behind the head's layers, as published 0.5.
    """

    name: ClassVar[str] = "pointnet2"
    summary: ClassVar[str] = "PointNet++: PointNets on balls of points, level by level (SSG or MSG)"
    citation: ClassVar[str] = "qi2017pointnetplusplus"
    implementation: ClassVar[str] = "regathlon_points.models.pointnet2:build_pointnet2"
    grouping: Grouping = "single"
    width: float = 1.0
    dropout: float = 0.5

    def __post_init__(self) -> None:
        _check(self)
        if self.grouping not in ("single", "multi"):
            raise unknown("grouping", self.grouping, ("single", "multi"))


@dataclass(frozen=True)
class DGCNNSettings(ModelSettings):
    """DGCNN.

    Attributes:
        k: Neighbours of a point, itself included; the paper's 20 go with 1024 points.
        width: Factor on the channels of every hidden layer; 1 is the published network.
        dropout: Rate of the dropout behind the head's layers, as published 0.5.
    """

    name: ClassVar[str] = "dgcnn"
    summary: ClassVar[str] = "DGCNN: edge convolutions on graphs of nearest neighbours"
    citation: ClassVar[str] = "wang2019dynamic"
    implementation: ClassVar[str] = "regathlon_points.models.dgcnn:build_dgcnn"
    k: int = 20
    width: float = 1.0
    dropout: float = 0.5

    def __post_init__(self) -> None:
        _check(self)
        if self.k < 1:
            raise UserError(f"dgcnn: k is a number of neighbours of at least 1, not {self.k}.")


def _check(settings: PointNetSettings | PointNet2Settings | DGCNNSettings) -> None:
    if not (math.isfinite(settings.width) and settings.width > 0):
        raise UserError(
            f"{settings.name}: width is a factor above 0 (1 is the published network), not {settings.width}."
        )
    if not 0 <= settings.dropout < 1:
        raise UserError(f"{settings.name}: dropout is a rate in [0, 1), not {settings.dropout}.")
