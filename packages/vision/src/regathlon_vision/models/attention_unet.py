"""Attention U-Net."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_vision.models.unet import UNet

if TYPE_CHECKING:
    from regathlon_core.task import Task
    from regathlon_vision.models.dense_settings import AttentionUNetSettings


class AttentionGate(nn.Module):
    """Weighs the positions of a skip by what the decoder knows from below (Oktay et al. 2018, Eqs. 1 and 2).

    alpha = sigmoid(psi(relu(W_x x + W_g g))), one weight per position; the result is alpha · x.

    Args:
        channels: Of the skip x.
        below: Channels of the gating signal g, at half the resolution.
    """

    def __init__(self, channels: int, below: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.of_skip = nn.Conv2d(channels, inner, 2, stride=2, bias=False)
        self.of_gate = nn.Conv2d(below, inner, 1)
        self.psi = nn.Conv2d(inner, 1, 1)

    def forward(self, skip: Tensor, gate: Tensor) -> Tensor:
        """Return the weighed skip [B, C, H, W], given the signal [B, C', ceil(H / 2), ceil(W / 2)]."""
        height, width = skip.shape[-2:]
        whole = F.pad(skip, (0, width % 2, 0, height % 2))  # to whole windows of 2 by 2
        weight = self.psi((self.of_skip(whole) + self.of_gate(gate)).relu()).sigmoid()
        weight = F.interpolate(weight, scale_factor=2.0, mode="bilinear", align_corners=False)
        return skip * weight[..., :height, :width]


class AttentionUNet(UNet):
    """Attention U-Net (Oktay et al. 2018, arXiv 1804.03999, figure 1): U-Net whose skips pass additive attention gates.

    Deviations from the paper: (1) in two dimensions; (2) no deep supervision; (3) those of ``UNet``.

    Args:
        in_channels: Channels of an image.
        classes: Number of classes K.
        width: Channels at full resolution.
        depth: Number of steps down.

    Example:
        >>> import torch
        >>> AttentionUNet(in_channels=3, classes=5, width=4, depth=2)(torch.zeros(1, 3, 13, 10)).shape
        torch.Size([1, 5, 13, 10])
    """

    def __init__(self, in_channels: int, classes: int, *, width: int = 16, depth: int = 2) -> None:
        super().__init__(in_channels, classes, width=width, depth=depth)
        levels = range(depth - 1, -1, -1)
        self.gates = nn.ModuleList(
            AttentionGate(width * 2**level, width * 2 ** (level + 1)) for level in levels
        )

    def merge(self, level: int, skip: Tensor, below: Tensor) -> Tensor:
        """Return what a stage on the way up reads."""
        return super().merge(level, self.gates[level](skip, below), below)


def build_attention_unet(settings: AttentionUNetSettings, task: Task) -> AttentionUNet:
    """Build the model that the settings declare for a task's images and classes."""
    return AttentionUNet(task.in_channels, len(task.classes), width=settings.width, depth=settings.depth)
