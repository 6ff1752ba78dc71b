"""PointNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from regathlon_core.features import FeaturePoint
from regathlon_core.task import Task
from regathlon_points.models.layers import dense_layer, scaled, shared_layer
from regathlon_points.models.settings import PointNetSettings

_SHARED = (64, 64, 64, 128, 1024)
_HEAD = (512, 256)
_TRANSFORM = (64, 128, 1024)


class PointNet(nn.Module):
    """PointNet for classification: an MLP shared by all points, their maximum per channel, and a head.

    Source: Qi, Su, Mo and Guibas, "PointNet: Deep Learning on Point Sets for 3D Classification and
    Segmentation", CVPR 2017, figure 2; reference code https://github.com/charlesq34/pointnet.

    Deviations:
        1. No feature transform (the 64 x 64 T-Net), which trains only with a penalty of its own in the loss;
           the input transform is there to be switched on.
        2. In the head a batch of one cloud, which has no variance, is normalised by the running statistics.
        3. Convolutions and linear layers before a batch-norm have no bias, which it would cancel.

    Args:
        in_channels: Channels of a point, C; the first three are its coordinates.
        classes: Number of classes K.
        width: Factor on the channels of every hidden layer.
        transform: Whether the input transform turns the coordinates first.
        dropout: Rate of the dropout before the last layer.

    Example:
        >>> model = PointNet(in_channels=3, classes=10, width=0.25)
        >>> model(torch.randn(2, 3, 100)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        width: float = 1.0,
        transform: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.transform = _InputTransform(width) if transform else None
        shared, head = scaled(_SHARED, width), scaled(_HEAD, width)
        self.layers = nn.Sequential(
            *(shared_layer(i, o) for i, o in zip([in_channels, *shared], shared, strict=False))
        )
        self.head = nn.Sequential(
            *(dense_layer(i, o) for i, o in zip([shared[-1], *head], head, strict=False)),
            *([nn.Dropout(dropout)] if dropout else []),
        )
        self.classifier = nn.Linear(head[-1], classes)

    def forward(self, points: Tensor) -> Tensor:
        """Return logits [B, K] of clouds [B, C, N]."""
        if self.transform is not None:
            turned = self.transform(points[:, :3]) @ points[:, :3]
            points = torch.cat([turned, points[:, 3:]], dim=1)
        logits: Tensor = self.classifier(self.head(self.layers(points).max(dim=2).values))
        return logits

    def feature_points(self) -> Sequence[FeaturePoint]:
        """Return the outputs of the shared layers [B, C, N]; by default only the last but one is acted on.

        The last one's maximum over the points follows at once: with dropout there it is one of values scaled
        up in training, and of plain ones in evaluation, so accuracy falls.
        """
        channels = [layer[0].out_channels for layer in self.layers]  # type: ignore[index]
        usual = len(channels) - 2
        return [
            FeaturePoint(f"layers.{i}", channels=count, default=i == usual, aligned=False)
            for i, count in enumerate(channels)
        ]

    def output_layers(self) -> Sequence[str]:
        """Return the layer whose output is the logits."""
        return ("classifier",)


class _InputTransform(nn.Module):
    """Predicts a 3 x 3 matrix for each cloud from its coordinates [B, 3, N]; the identity at first."""

    def __init__(self, width: float) -> None:
        super().__init__()
        shared, head = scaled(_TRANSFORM, width), scaled(_HEAD, width)
        self.layers = nn.Sequential(*(shared_layer(i, o) for i, o in zip([3, *shared], shared, strict=False)))
        self.head = nn.Sequential(
            *(dense_layer(i, o) for i, o in zip([shared[-1], *head], head, strict=False))
        )
        self.matrix = nn.Linear(head[-1], 9)
        nn.init.zeros_(self.matrix.weight)
        with torch.no_grad():
            self.matrix.bias.copy_(torch.eye(3).flatten())

    def forward(self, points: Tensor) -> Tensor:
        matrix: Tensor = self.matrix(self.head(self.layers(points).max(dim=2).values))
        return matrix.view(-1, 3, 3)


def build_pointnet(settings: PointNetSettings, task: Task) -> PointNet:
    """Return a PointNet that fits the task."""
    return PointNet(
        task.in_channels,
        len(task.classes),
        width=settings.width,
        transform=settings.transform,
        dropout=settings.dropout,
    )
