"""Residual networks of the CIFAR kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from regathlon_core.task import Task
    from regathlon_vision.models.settings import ResNet8Settings


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch-norm, added to a shortcut, then ReLU.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        stride: Of the first convolution; where it or the channels change, the shortcut is a 1x1 convolution.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] to [B, channels, ceil(H / stride), ceil(W / stride)]."""
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu2(y + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """Residual network for small images (He et al. 2016, arXiv 1512.03385, section 4.2).

    A 3x3 stem, then groups of ``BasicBlock`` named ``layer1``, ``layer2``, ...; every later group halves
    the resolution and doubles the channels; then global average pooling and a linear classifier ``fc``.
    Depth is 2 · (sum of blocks) + 2.

    Deviation from the paper: shortcuts that change shape are 1x1 convolutions with batch-norm (its option B)
    instead of zero padding (option A).

    Args:
        in_channels: Channels of an image.
        classes: Number of classes K.
        width: Channels of the first group.
        blocks: Blocks of each group; (3, 3, 3) is the paper's ResNet-20 at width 16.

    Example:
        >>> import torch
        >>> ResNet(in_channels=1, classes=10, width=4)(torch.zeros(2, 1, 9, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, in_channels: int, classes: int, *, width: int = 16, blocks: Sequence[int] = (1, 1, 1)
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.groups = tuple(f"layer{number}" for number in range(1, len(blocks) + 1))
        channels = width
        for number, (name, count) in enumerate(zip(self.groups, blocks, strict=True)):
            out = width * 2**number
            strides = [1 if number == 0 else 2] + [1] * (count - 1)
            group = nn.Sequential()
            for stride in strides:
                group.append(BasicBlock(channels, out, stride))
                channels = out
            self.add_module(name, group)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, K] of images [B, C, H, W] of any size."""
        x = self.relu(self.bn1(self.conv1(x)))
        for name in self.groups:
            x = self.get_submodule(name)(x)
        out: Tensor = self.fc(self.avgpool(x).flatten(1))
        return out


def build_resnet(settings: ResNet8Settings, task: Task) -> ResNet:
    """Build the model that the settings declare for a task's images and classes."""
    return ResNet(task.in_channels, len(task.classes), width=settings.width, blocks=settings.blocks)
