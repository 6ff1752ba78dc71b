"""Pyramidal residual networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from regathlon_core.task import Task
    from regathlon_vision.models.settings import PyramidNetSettings


class PyramidBottleneck(nn.Module):
    """Batch-norm, then 1x1, 3x3 and 1x1 convolutions each followed by batch-norm, with ReLU between them.

    The shortcut has no weights: average pooling where the stride is 2, and zeros for the channels it lacks.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the 3x3 convolution; the output has four times as many.
        stride: Of the 3x3 convolution, 1 or 2.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        out = channels * self.expansion
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(channels, out, 1, bias=False)
        self.bn4 = nn.BatchNorm2d(out)
        self.shortcut = ZeroPadding(out - in_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] to [B, 4 · channels, ceil(H / stride), ceil(W / stride)]."""
        y = self.conv1(self.bn1(x))
        y = self.conv2(self.relu1(self.bn2(y)))
        y = self.bn4(self.conv3(self.relu2(self.bn3(y))))
        out: Tensor = y + self.shortcut(x)
        return out


class ZeroPadding(nn.Module):
    """A shortcut without weights: average pooling by the stride, then further channels that are 0.

    Args:
        more: Channels to add.
        stride: 1 for no pooling.
    """

    def __init__(self, more: int, stride: int = 1) -> None:
        super().__init__()
        self.more = more
        self.pool = nn.AvgPool2d(stride, stride, ceil_mode=True) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C + more, ceil(H / stride), ceil(W / stride)]."""
        return F.pad(self.pool(x), (0, 0, 0, 0, 0, self.more))


class PyramidNet(nn.Module):
    """Pyramidal residual network with bottlenecks (Han, Kim & Kim 2017, arXiv 1610.02915, section 3 and Table 1).

    A 3x3 stem of 16 channels with batch-norm, three groups of (depth - 2) / 9 bottlenecks whose inner channels grow by
    ``widen`` over all of them in equal steps (rounded), batch-norm, ReLU, pooling and a classifier ``fc``.

    Deviation from the paper: pooling is over whatever size arrives, so that images of any size work.

    Args:
        in_channels: Channels of an image.
        classes: Number of classes K.
        depth: 9 n + 2; 200 in the paper.
        widen: By how many channels the inner layers grow in all; 240 in the paper.

    Example:
        >>> import torch
        >>> model = PyramidNet(3, 10, depth=29, widen=12)
        >>> [model(torch.zeros(2, 3, side, side)).shape[1] for side in (32, 28, 24)]
        [10, 10, 10]
    """

    def __init__(self, in_channels: int, classes: int, *, depth: int = 200, widen: int = 240) -> None:
        super().__init__()
        blocks = (depth - 2) // 9
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        channels, done = 16, 0
        for number in range(3):
            group = nn.Sequential()
            for at in range(blocks):
                done += 1
                inner = round(16 + widen * done / (3 * blocks))
                group.append(PyramidBottleneck(channels, inner, 2 if number and not at else 1))
                channels = inner * PyramidBottleneck.expansion
            self.add_module(f"layer{number + 1}", group)
        self.bn_final = nn.BatchNorm2d(channels)
        self.relu_final = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, K] of images [B, C, H, W] of any size."""
        x = self.bn1(self.conv1(x))
        for name in ("layer1", "layer2", "layer3"):
            x = self.get_submodule(name)(x)
        out: Tensor = self.fc(self.avgpool(self.relu_final(self.bn_final(x))).flatten(1))
        return out


def build_pyramidnet(settings: PyramidNetSettings, task: Task) -> PyramidNet:
    """Build the model that the settings declare for a task's images and classes."""
    return PyramidNet(task.in_channels, len(task.classes), depth=settings.depth, widen=settings.widen)
