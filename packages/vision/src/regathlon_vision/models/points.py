"""Where feature-level regularizers act in a model of images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from regathlon_core.errors import UserError
from regathlon_core.features import FeaturePoint


def feature_points(model: nn.Module) -> list[FeaturePoint]:
    """Return the insertion points of a model: its own ``feature_points()``, else its residual blocks.

    Residual blocks are those in groups called ``layer1``, ``layer2``, ... as in torchvision. Every block's
    output is a point (``"layer2.0"``); those of the last two groups are default ones. Further points lie inside the
    blocks, see ``block_points``; those of the last two groups are the placement "dropgraph".

    Raises:
        UserError: The model has neither.

    Example:
        >>> from regathlon_vision import ResNet
        >>> points = feature_points(ResNet(in_channels=1, classes=10, width=4))
        >>> [(point.name, point.channels) for point in points if point.default]
        [('layer2.0', 8), ('layer3.0', 16)]
        >>> [point.name for point in points if point.group == "layer3"]
        ['layer3.0', 'layer3.0/relu1', 'layer3.0/main', 'layer3.0/skip']
    """
    own = getattr(model, "feature_points", None)
    if own is not None:
        points: list[FeaturePoint] = list(own())
        return points
    points = residual_points(model)
    if not points:
        raise UserError(
            f"{type(model).__name__} names no feature points: give it a method feature_points() that returns "
            "them (regathlon_core.FeaturePoint), or groups of blocks called layer1, layer2, ..."
        )
    return points


def residual_points(model: nn.Module, prefix: str = "") -> list[FeaturePoint]:
    """Return the points of a residual network, or of one that is a part of a model.

    Args:
        model: The network.
        prefix: What its submodules' names begin with in the model (``"backbone."``).
    """
    groups = [name for name, _ in model.named_children() if re.fullmatch(r"layer\d+", name)]
    points = []
    for group in groups:
        last = group in groups[-2:]
        placements = ("dropgraph",) if last else ()
        for number, block in model.get_submodule(group).named_children():
            name = f"{prefix}{group}.{number}"
            points.append(FeaturePoint(name, _out_channels(block), default=last, group=group))
            points += block_points(name, block, group=group, placements=placements)
    return points


def block_points(
    name: str, block: nn.Module, *, group: str = "", placements: tuple[str, ...] = ()
) -> list[FeaturePoint]:
    """Return the points inside a residual block whose activations follow its convolutions.

    After every activation of the main branch (``"<name>/relu1"``, ...), at its end (``"<name>/main"``) and on the shortcut
    (``"<name>/skip"``), both before the sum: where DropBlock, Disout and DropGraph were put in ResNets.

    Args:
        name: Of the block in the model.
        block: Convolutions ``conv1``, ``conv2``, ..., each with its norm ``bn1``, ``bn2``, ... after it, and a shortcut
            called ``downsample`` or ``shortcut`` where it is no plain identity. Others, such as those whose norms come
            first, have no such points.
        group: That the block belongs to.
        placements: That the points belong to.
    """
    children = dict(block.named_children())
    convs = [child for child in children if re.fullmatch(r"conv\d+", child)]
    end = f"bn{len(convs)}"
    if next(iter(children), "") != "conv1" or end not in children:
        return []
    common: dict[str, Any] = {"default": False, "group": group, "placements": placements}
    points = [
        FeaturePoint(
            f"{name}.{conv}",
            children[conv].in_channels,  # type: ignore[arg-type]
            side="input",
            name=f"{name}/relu{number}",
            **common,
        )
        for number, conv in enumerate(convs[1:], start=1)
    ]
    channels = _out_channels(block)
    points.append(FeaturePoint(f"{name}.{end}", channels, name=f"{name}/main", **common))
    shortcut = next((child for child in ("downsample", "shortcut") if child in children), None)
    common |= {"name": f"{name}/skip"}
    if shortcut is not None:
        points.append(FeaturePoint(f"{name}.{shortcut}", channels, **common))
    else:
        points.append(FeaturePoint(name, channels, side="skip", main=f"{name}.conv1", **common))
    return points


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
