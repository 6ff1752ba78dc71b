"""PointNet++: PointNets on balls of points, level by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from regathlon_core.features import FeaturePoint
from regathlon_core.task import Task
from regathlon_points.models.layers import EdgeNorm, gather, head, scaled, shared_layer
from regathlon_points.models.settings import Grouping, PointNet2Settings
from regathlon_points.ops import ball_query, farthest_point_sample


@dataclass(frozen=True)
class Scale:
    """Balls of one size.

    Attributes:
        radius: Of a ball.
        k: Points of a ball.
        channels: Of the layers that its points pass.
    """

    radius: float
    k: int
    channels: tuple[int, ...]


_LEVELS = MappingProxyType(
    {
        "single": (
            (Scale(0.2, 32, (64, 64, 128)),),
            (Scale(0.4, 64, (128, 128, 256)),),
        ),
        "multi": (
            (
                Scale(0.1, 16, (32, 32, 64)),
                Scale(0.2, 32, (64, 64, 128)),
                Scale(0.4, 128, (64, 96, 128)),
            ),
            (
                Scale(0.2, 32, (64, 64, 128)),
                Scale(0.4, 64, (128, 128, 256)),
                Scale(0.8, 128, (128, 128, 256)),
            ),
        ),
    }
)
_SHARES = (2, 8)  # a level keeps one point in so many of the cloud's: 512 and 128 of 1024
_WHOLE = (256, 512, 1024)
_HEAD = (512, 256)


class SetAbstraction(nn.Module):
    """Features of centres from the balls around them: a shared MLP and a maximum for every scale, joined.

    Source: Qi et al., "PointNet++", NeurIPS 2017, sections 3.2 and 3.3.

    Args:
        channels: Features of a point besides its place, C; may be 0.
        scales: Sizes of the balls.
    """

    def __init__(self, channels: int, scales: Sequence[Scale]) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.layers = nn.ModuleList(
            nn.Sequential(
                *(
                    _pixel_layer(i, o)
                    for i, o in zip([3 + channels, *scale.channels], scale.channels, strict=False)
                )
            )
            for scale in scales
        )
        self.out_channels = sum(scale.channels[-1] for scale in scales)

    def forward(self, places: Tensor, centers: Tensor, features: Tensor) -> Tensor:
        """Return [B, C', M] for centres [B, 3, M] among points [B, 3, N] with features [B, C, N]."""
        found = []
        for scale, layers in zip(self.scales, self.layers, strict=True):
            index = ball_query(places.mT, centers.mT, scale.radius, scale.k)
            near = gather(places, index) - centers[..., None]
            if features.shape[1]:
                near = torch.cat([near, gather(features, index)], dim=1)
            found.append(layers(near).amax(dim=3))
        return torch.cat(found, dim=1) if len(found) > 1 else found[0]


class PointNet2(nn.Module):
    """PointNet++ for classification, with balls of one size (SSG) or of three (MSG).

    Source: Qi, Yi, Su and Guibas, "PointNet++: Deep Hierarchical Feature Learning on Point Sets in a Metric
    Space", NeurIPS 2017, and its supplement, section B.1; reference code
    https://github.com/charlesq34/pointnet2.

    Deviations: (1) centres are half and an eighth of the points, which of 1024 are the published 512 and 128;
    (2) the first centre is the point farthest from the centroid, not a random one, so the same cloud has the
    same logits whatever the order of its points; (3) layers before a norm have no bias; (4) in the head a
    batch of one cloud is normalised by the running statistics.

    Args:
        in_channels: Channels of a point; the first three are its coordinates, others (normals) its features.
        classes: Number of classes K.
        grouping: ``"single"`` (SSG) or ``"multi"`` (MSG).
        width: Factor on the channels of every hidden layer.
        dropout: Rate of the dropout behind the head's layers.

    Example:
        >>> PointNet2(in_channels=6, classes=10, grouping="multi", width=0.25)(torch.randn(2, 6, 64)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        grouping: Grouping = "single",
        width: float = 1.0,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        channels = in_channels - 3
        for scales in _LEVELS[grouping]:
            level = SetAbstraction(
                channels, [Scale(s.radius, s.k, tuple(scaled(s.channels, width))) for s in scales]
            )
            self.levels.append(level)
            channels = level.out_channels
        whole, hidden = scaled(_WHOLE, width), scaled(_HEAD, width)
        self.whole = nn.Sequential(
            *(shared_layer(i, o) for i, o in zip([3 + channels, *whole], whole, strict=False))
        )
        self.head = head(whole[-1], hidden, dropout)
        self.classifier = nn.Linear(hidden[-1], classes)

    def forward(self, points: Tensor) -> Tensor:
        """Return logits [B, K] of clouds [B, C, N]."""
        places, features = points[:, :3], points[:, 3:]
        for level, share in zip(self.levels, _SHARES, strict=True):
            count = min(places.shape[2], max(1, points.shape[2] // share))
            centers = gather(places, farthest_point_sample(places.mT, count))
            places, features = centers, level(places, centers, features)
        whole = self.whole(torch.cat([places, features], dim=1)).amax(dim=2)
        logits: Tensor = self.classifier(self.head(whole))
        return logits

    def feature_points(self) -> Sequence[FeaturePoint]:
        """Return the outputs of the levels [B, C, M], and of the layers of the whole cloud but the last one."""
        levels = [
            FeaturePoint(f"levels.{i}", channels=level.out_channels, aligned=False)  # type: ignore[arg-type]
            for i, level in enumerate(self.levels)
        ]
        sizes: list[int] = [layer[0].out_channels for layer in self.whole]  # type: ignore[index]
        whole = [
            FeaturePoint(f"whole.{i}", channels=size, default=False, aligned=False)
            for i, size in enumerate(sizes)
        ]
        return [*levels, *whole[:-1]]

    def output_layers(self) -> Sequence[str]:
        """Return the layer whose output is the logits."""
        return ("classifier",)


def _pixel_layer(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 1, bias=False), EdgeNorm(out), nn.ReLU())


def build_pointnet2(settings: PointNet2Settings, task: Task) -> PointNet2:
    """Return a PointNet++ that fits the task."""
    return PointNet2(
        task.in_channels,
        len(task.classes),
        grouping=settings.grouping,
        width=settings.width,
        dropout=settings.dropout,
    )
