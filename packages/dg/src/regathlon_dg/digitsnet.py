"""The small network of Digits-DG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from regathlon_core.features import FeaturePoint

if TYPE_CHECKING:
    from regathlon_core.task import Task
    from regathlon_dg.model_settings import DigitsNetSettings


class DigitsNet(nn.Module):
    """Four blocks of a 3x3 convolution, ReLU and 2x2 max-pooling, then a linear classifier.

    Zhou, Yang, Hospedales, Xiang: Learning to Generate Novel Domains for Domain Generalization, ECCV 2020,
    arXiv:2007.03304, section 4.1; https://github.com/KaiyangZhou/Dassl.pytorch. Deviation: the last map is averaged to
    2x2 whatever the size of the image; at 32 pixels it is 2x2 as it comes.

    Args:
        in_channels: Channels of an image.
        classes: Number of classes K.
        width: Channels of every convolution.

    Example:
        >>> import torch
        >>> DigitsNet(3, 10, width=4)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, in_channels: int, classes: int, *, width: int = 64) -> None:
        super().__init__()
        self.blocks = nn.Sequential()
        for number in range(4):
            convolution = nn.Conv2d(width if number else in_channels, width, 3, padding=1)
            nn.init.kaiming_normal_(convolution.weight)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            self.blocks.append(nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)))
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, K] of images [B, C, H, W]."""
        out: Tensor = self.fc(self.pool(self.blocks(x)).flatten(1))
        return out

    def feature_points(self) -> list[FeaturePoint]:
        """Return the outputs of the four blocks; the second and third are the default ones.

        Example:
            >>> [point.module for point in DigitsNet(3, 10).feature_points() if point.default]
            ['blocks.1', 'blocks.2']
        """
        width = self.fc.in_features // 4
        return [FeaturePoint(f"blocks.{number}", width, default=number in (1, 2)) for number in range(4)]


def build_digitsnet(settings: DigitsNetSettings, task: Task) -> DigitsNet:
    """Build the model that the settings declare for a task's images and classes."""
    return DigitsNet(task.in_channels, len(task.classes), width=settings.width)
