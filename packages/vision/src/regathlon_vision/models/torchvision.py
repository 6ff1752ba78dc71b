"""torchvision's models, untrained, with names and state-dict keys as they are there."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch
import torchvision  # type: ignore[import-untyped]
from torch import nn

from regathlon_core.features import FeaturePoint

if TYPE_CHECKING:
    from regathlon_core.task import Task
    from regathlon_vision.models.settings import RegNetX200Settings, ResNet18Settings, ResNet50Settings

_SMALL = 64


def is_small(task: Task) -> bool:
    """Return whether a task's images have at most 64 pixels a side, too few for a stem that divides them by 4."""
    height, width = task.batch("train", torch.tensor([0])).inputs.shape[-2:]
    return bool(max(height, width) <= _SMALL)


def build_resnet18(settings: ResNet18Settings, task: Task) -> nn.Module:
    """Build ResNet-18 for a task's images and classes."""
    model: nn.Module = torchvision.models.resnet18(num_classes=len(task.classes))
    return _with_stem(model, task.in_channels, small=settings.small_stem)


def build_bottleneck_resnet(settings: ResNet50Settings, task: Task) -> nn.Module:
    """Build a ResNet of bottlenecks, or its D-type, for a task's images and classes."""
    bottleneck = torchvision.models.resnet.Bottleneck
    model: nn.Module = torchvision.models.ResNet(bottleneck, list(settings.blocks), len(task.classes))
    small = is_small(task) if settings.small_stem is None else settings.small_stem
    _with_stem(model, task.in_channels, small=small)
    if settings.tweaked:
        if not small:
            model.conv1 = _deep_stem(task.in_channels)
        for name in ("layer2.0", "layer3.0", "layer4.0"):
            convolution, norm = model.get_submodule(f"{name}.downsample").children()
            convolution.stride = (1, 1)  # type: ignore[assignment]
            pool = nn.AvgPool2d(2, stride=2, ceil_mode=True, count_include_pad=False)
            model.get_submodule(name).downsample = nn.Sequential(pool, convolution, norm)
    return model


def build_regnet_x_200mf(settings: RegNetX200Settings, task: Task) -> nn.Module:
    """Build RegNetX-200MF for a task's images and classes."""
    return RegNetX200(len(task.classes), task.in_channels, stem_stride=1 if is_small(task) else 2)


class RegNetX200(torchvision.models.RegNet):  # type: ignore[misc]
    """RegNetX-200MF (Radosavovic et al. 2020, arXiv 2003.13678, Table 10): torchvision's RegNet, which lacks this size.

    Args:
        classes: Number of classes K.
        in_channels: Channels of an image.
        stem_stride: 2 in the paper; 1 keeps the resolution of small images.

    Example:
        >>> RegNetX200(1000)(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 1000])
    """

    output_layers = ("fc",)

    def __init__(self, classes: int, in_channels: int = 3, *, stem_stride: int = 2) -> None:
        params = torchvision.models.regnet.BlockParams.from_init_params(
            depth=13, w_0=24, w_a=36.44, w_m=2.49, group_width=8
        )
        super().__init__(params, num_classes=classes)
        if in_channels != 3 or stem_stride != 2:
            stem = nn.Conv2d(in_channels, 32, 3, stride=stem_stride, padding=1, bias=False)
            nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
            self.stem[0] = stem

    def feature_points(self) -> list[FeaturePoint]:
        """Return the outputs of all blocks, those of the last two stages being the default ones, and the places inside.

        Those in the last three blocks are the placement "dropgraph".
        """
        stages = list(self.trunk_output.named_children())
        points = []
        for stage, blocks in stages:
            for at, (name, block) in enumerate(blocks.named_children()):
                whole = f"trunk_output.{stage}.{name}"
                default = (stage, blocks) in stages[-2:]
                points.append(FeaturePoint(whole, block.f.c[0].out_channels, default=default, group=stage))
                last = stage == stages[-1][0] and at >= len(blocks) - 3
                points += _inside(whole, block, stage, ("dropgraph",) if last else ())
        return points


def _inside(whole: str, block: Any, group: str, placements: tuple[str, ...]) -> list[FeaturePoint]:
    """Return the places inside a block of a RegNet: after activations, at the main branch's end, on the shortcut."""
    common: dict[str, Any] = {"default": False, "group": group, "placements": placements}
    parts = {"a": "relu1", "b": "relu2", "c": "main"}
    points = [
        FeaturePoint(
            f"{whole}.f.{part}", block.f.get_submodule(part)[0].out_channels, name=f"{whole}/{name}", **common
        )
        for part, name in parts.items()
    ]
    common |= {"name": f"{whole}/skip"}
    channels = block.f.c[0].out_channels
    if block.proj is not None:
        return [*points, FeaturePoint(f"{whole}.proj", channels, **common)]
    return [*points, FeaturePoint(whole, channels, side="skip", main=f"{whole}.f", **common)]


def _with_stem(model: nn.Module, in_channels: int, *, small: bool) -> nn.Module:
    if small:
        stem = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    elif in_channels != 3:
        stem = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
    else:
        return model
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    model.conv1 = stem
    return model


def _deep_stem(in_channels: int) -> nn.Sequential:
    """Return three 3x3 convolutions in place of the 7x7 one; batch-norm and ReLU follow the last in the model."""
    channels = (in_channels, 32, 32, 64)
    stem = nn.Sequential()
    for at, (before, after) in enumerate(itertools.pairwise(channels)):
        conv = nn.Conv2d(before, after, 3, stride=1 if at else 2, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        stem.append(conv)
        if at < 2:
            stem.extend([nn.BatchNorm2d(after), nn.ReLU()])
    return stem
