"""torchvision's models, untrained, with names and state-dict keys as they are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torchvision  # type: ignore[import-untyped]
from torch import nn

if TYPE_CHECKING:
    from regathlon_core.task import Task
    from regathlon_vision.models.settings import ResNet18Settings


def build_resnet18(settings: ResNet18Settings, task: Task) -> nn.Module:
    """Build ResNet-18 for a task's images and classes."""
    model: nn.Module = torchvision.models.resnet18(num_classes=len(task.classes))
    if settings.small_stem:
        stem = nn.Conv2d(task.in_channels, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    elif task.in_channels != 3:
        stem = nn.Conv2d(task.in_channels, 64, 7, stride=2, padding=3, bias=False)
    else:
        return model
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    model.conv1 = stem
    return model
