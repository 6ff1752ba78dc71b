"""Where feature-level regularizers act in a model of images."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from regathlon_core.errors import UserError
from regathlon_core.features import FeaturePoint


def feature_points(model: nn.Module) -> list[FeaturePoint]:
    """Return the insertion points of a model: its own ``feature_points()``, else its residual blocks.

    Residual blocks are those in groups called ``layer1``, ``layer2``, ... as in torchvision. Every block's
    output is a point (``"layer2.0"``); those of the last two groups are default ones.

    Raises:
        UserError: The model has neither.

    Example:
        >>> from regathlon_vision import ResNet
        >>> points = feature_points(ResNet(in_channels=1, classes=10, width=4))
        >>> [(point.module, point.channels, point.default) for point in points]
        [('layer1.0', 4, False), ('layer2.0', 8, True), ('layer3.0', 16, True)]
    """
    own = getattr(model, "feature_points", None)
    if own is not None:
        points: list[FeaturePoint] = list(own())
        return points
    groups = [name for name, _ in model.named_children() if re.fullmatch(r"layer\d+", name)]
    if not groups:
        raise UserError(
            f"{type(model).__name__} names no feature points: give it a method feature_points() that returns "
            "them (regathlon_core.FeaturePoint), or groups of blocks called layer1, layer2, ..."
        )
    return [
        FeaturePoint(f"{group}.{name}", _out_channels(block), default=group in groups[-2:])
        for group in groups
        for name, block in model.get_submodule(group).named_children()
    ]


def output_layers(model: nn.Module) -> Sequence[str]:
    """Return the submodules that predict: the model's own ``output_layers``, else its last linear layer.

    Example:
        >>> from regathlon_vision import ResNet
        >>> output_layers(ResNet(1, 10, width=4))
        ('fc',)
    """
    own: Sequence[str] | None = getattr(model, "output_layers", None)
    if own is not None:
        return own
    return tuple(name for name, module in model.named_modules() if isinstance(module, nn.Linear))[-1:]


def _out_channels(block: nn.Module) -> int:
    """Channels of a residual block's output: those of its last convolution, the shortcut's aside."""
    names = [name for name, _ in block.named_children() if re.fullmatch(r"conv\d+", name)]
    channels: int = block.get_submodule(names[-1]).out_channels  # type: ignore[assignment]
    return channels
