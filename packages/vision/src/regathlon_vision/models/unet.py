"""U-Net."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core.features import FeaturePoint

if TYPE_CHECKING:
    from regathlon_core.task import Task
    from regathlon_vision.models.settings import UNetSettings


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions, each with batch-norm and ReLU; the resolution stays.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        self.channels = channels


class UNet(nn.Module):
    """U-Net (Ronneberger, Fischer & Brox 2015, arXiv 1505.04597, section 2 and figure 1).

    Stages of two convolutions; max-pooling by 2 on the way down, doubling the channels; on the way up,
    upsampling, concatenation with the stage of the same resolution, two convolutions; at the end a 1x1
    convolution ``head``.

    Deviations from the paper: (1) padded convolutions, so the output has the input's size; (2) batch-norm
    after every convolution; (3) nearest-neighbour upsampling to the size of the skip instead of a 2x2
    up-convolution: it takes any size, odd ones too, and its gradient is deterministic on CUDA; (4) no dropout
    at the lowest stage.

    Args:
        in_channels: Channels of an image.
        classes: Number of classes K.
        width: Channels at full resolution (64 in the paper).
        depth: Number of steps down (4 in the paper).

    Example:
        >>> UNet(in_channels=3, classes=5, width=4, depth=2)(torch.zeros(1, 3, 13, 10)).shape
        torch.Size([1, 5, 13, 10])
    """

    output_layers = ("head",)

    def __init__(self, in_channels: int, classes: int, *, width: int = 16, depth: int = 2) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(
            DoubleConv(before, after) for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        self.decoder = nn.ModuleList(
            DoubleConv(below + skip, skip) for below, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.head = nn.Conv2d(width, classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, K, H, W] of images [B, C, H, W] of any size."""
        skips: list[Tensor] = []
        for level, stage in enumerate(self.encoder):
            x = stage(self.pool(x) if level else x)
            skips.append(x)
        skips.pop()
        for level, stage in enumerate(self.decoder):
            x = stage(self.merge(level, skips.pop(), x))
        out: Tensor = self.head(x)
        return out

    def merge(self, level: int, skip: Tensor, below: Tensor) -> Tensor:
        """Return what a stage on the way up reads.

        Args:
            level: Number of the stage, from the lowest.
            skip: What the encoder hands over, [B, C, H, W].
            below: What comes from below, at half the resolution.
        """
        return torch.cat([skip, F.interpolate(below, size=skip.shape[-2:], mode="nearest")], dim=1)

    def feature_points(self) -> list[FeaturePoint]:
        """Return the outputs of all stages, and the places after the two activations of the lowest one.

        The lowest stage and the first on the way up are the default ones; the activations are the placement "dropgraph".

        Example:
            >>> points = UNet(3, 5, width=4, depth=2).feature_points()
            >>> [point.name for point in points if point.default or point.placements]
            ['encoder.2', 'decoder.0', 'encoder.2/relu1', 'encoder.2/relu2']
        """
        lowest = f"encoder.{len(self.encoder) - 1}"
        stages = [
            FeaturePoint(name, stage.channels, default=name in (lowest, "decoder.0"))
            for name, stage in self.named_modules()
            if isinstance(stage, DoubleConv)
        ]
        channels = self.get_submodule(lowest).channels
        return stages + [
            FeaturePoint(
                f"{lowest}.{module}",
                channels,  # type: ignore[arg-type]
                default=False,
                name=f"{lowest}/relu{number}",
                placements=("dropgraph",),
            )
            for number, module in ((1, 2), (2, 5))
        ]


def build_unet(settings: UNetSettings, task: Task) -> UNet:
    """Build the model that the settings declare for a task's images and classes."""
    return UNet(task.in_channels, len(task.classes), width=settings.width, depth=settings.depth)
