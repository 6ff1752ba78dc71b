"""Models that give every pixel a class, on torchvision's ResNets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet  # type: ignore[import-untyped]
from torchvision.models.segmentation.deeplabv3 import DeepLabHead  # type: ignore[import-untyped]

from regathlon_core.errors import UserError
from regathlon_core.features import FeaturePoint
from regathlon_vision.models.points import residual_points

if TYPE_CHECKING:
    from regathlon_core.task import Task
    from regathlon_vision.models.dense_settings import DeepLabV3Settings, Fcn32sSettings


class _Trunk(ResNet):  # type: ignore[misc]
    """torchvision's ResNet up to its last map [B, 2048, h, w], without pooling and classifier."""

    def __init__(self, blocks: Sequence[int], dilated: bool) -> None:
        super().__init__(Bottleneck, list(blocks), replace_stride_with_dilation=[False, dilated, dilated])
        del self.avgpool, self.fc

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for group in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = group(x)
        return x


class _OnResNet(nn.Module):
    """A trunk, a head, and bilinear upsampling to the size of the image.

    Args:
        classes: Number of classes K.
        blocks: Bottleneck blocks of each group of the ResNet.
    """

    output_layers: Sequence[str]

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, K, H, W] of images [B, 3, H, W] of any size."""
        scores = self.head(self.backbone(x))
        return F.interpolate(scores, size=x.shape[-2:], mode="bilinear", align_corners=False)

    def feature_points(self) -> list[FeaturePoint]:
        """Return those of the ResNet."""
        return residual_points(self.backbone, prefix="backbone.")


class FCN32s(_OnResNet):
    """FCN-32s (Long, Shelhamer & Darrell 2015, arXiv 1411.4038, section 4) on a ResNet in place of a VGG.

    Scores are made by a 1x1 convolution at a 32nd of the resolution.

    Deviations from the paper: (1) the upsampling is bilinear and not learned; (2) the ResNet's padded convolutions take
    the place of 100 pixels of padding and a crop.

    Args:
        classes: Number of classes K.
        blocks: Bottleneck blocks of each group; (3, 4, 6, 3) is ResNet-50.

    Example:
        >>> import torch
        >>> FCN32s(5, blocks=(1, 1, 1, 1))(torch.zeros(1, 3, 64, 40)).shape
        torch.Size([1, 5, 64, 40])
    """

    output_layers = ("head",)

    def __init__(self, classes: int, *, blocks: Sequence[int] = (3, 4, 6, 3)) -> None:
        super().__init__(_Trunk(blocks, dilated=False), nn.Conv2d(2048, classes, 1))


class DeepLabV3(_OnResNet):
    """DeepLabV3 (Chen et al. 2017, arXiv 1706.05587, section 3.3), torchvision's head and dilations (output stride 8).

    Its pyramid has a branch over the whole image, whose batch-norm needs more than one image to train on.

    Args:
        classes: Number of classes K.
        blocks: Bottleneck blocks of each group; (3, 4, 6, 3) is ResNet-50.

    Example:
        >>> import torch
        >>> DeepLabV3(5, blocks=(1, 1, 1, 1)).eval()(torch.zeros(1, 3, 64, 40)).shape
        torch.Size([1, 5, 64, 40])
    """

    output_layers = ("head.4",)

    def __init__(self, classes: int, *, blocks: Sequence[int] = (3, 4, 6, 3)) -> None:
        super().__init__(_Trunk(blocks, dilated=True), DeepLabHead(2048, classes))


def build_fcn32s(settings: Fcn32sSettings, task: Task) -> FCN32s:
    """Build the model that the settings declare for a task's classes."""
    return FCN32s(_classes(settings.name, task), blocks=settings.blocks)


def build_deeplabv3(settings: DeepLabV3Settings, task: Task) -> DeepLabV3:
    """Build the model that the settings declare for a task's classes."""
    return DeepLabV3(_classes(settings.name, task), blocks=settings.blocks)


def _classes(name: str, task: Task) -> int:
    if task.in_channels != 3:
        raise UserError(f"{name} takes colour images, of three channels, not {task.in_channels}.")
    return len(task.classes)
