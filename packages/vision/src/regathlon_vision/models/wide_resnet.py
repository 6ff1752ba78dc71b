"""Wide residual networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from regathlon_core.task import Task
    from regathlon_vision.models.settings import WideResNetSettings


class PreActivationBlock(nn.Module):
    """Batch-norm, ReLU, 3x3 convolution, twice, added to a shortcut (He et al. 2016, arXiv 1603.05027).

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        stride: Of the first convolution; where it or the channels change, the shortcut is a 1x1 convolution of the
            activated input.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] to [B, channels, ceil(H / stride), ceil(W / stride)]."""
        active = self.relu1(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = self.conv2(self.relu2(self.bn2(self.conv1(active)))) + shortcut
        return out


class WideResNet(nn.Module):
    """Wide residual network WRN-depth-widen (Zagoruyko & Komodakis 2016, arXiv 1605.07146, Table 1).

    A 3x3 stem of 16 channels, three groups of (depth - 4) / 6 pre-activation blocks of 16, 32 and 64 times ``widen``
    channels, the later two at half the resolution, batch-norm, ReLU, global average pooling and a classifier ``fc``.

    Deviation from the paper: pooling is over whatever size arrives instead of 8x8, so that images of any size work.

    Args:
        in_channels: Channels of an image.
        classes: Number of classes K.
        depth: 6 n + 4: 16, 22, 28, 40, ...
        widen: How many times as wide as a plain residual network.

    Example:
        >>> import torch
        >>> model = WideResNet(3, 10, depth=10, widen=1)
        >>> [model(torch.zeros(2, 3, side, side)).shape[1] for side in (32, 28, 24)]
        [10, 10, 10]
    """

    def __init__(self, in_channels: int, classes: int, *, depth: int = 28, widen: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        channels, blocks = 16, (depth - 4) // 6
        for number, stride in enumerate((1, 2, 2)):
            out = 16 * widen * 2**number
            group = nn.Sequential(PreActivationBlock(channels, out, stride))
            group.extend(PreActivationBlock(out, out) for _ in range(blocks - 1))
            self.add_module(f"layer{number + 1}", group)
            channels = out
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, K] of images [B, C, H, W] of any size."""
        x = self.conv1(x)
        for name in ("layer1", "layer2", "layer3"):
            x = self.get_submodule(name)(x)
        out: Tensor = self.fc(self.avgpool(self.relu(self.bn1(x))).flatten(1))
        return out


def build_wide_resnet(settings: WideResNetSettings, task: Task) -> WideResNet:
    """Build the model that the settings declare for a task's images and classes."""
    return WideResNet(task.in_channels, len(task.classes), depth=settings.depth, widen=settings.widen)
