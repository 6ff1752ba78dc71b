"""torchvision's networks, from scratch or with weights, with a classifier for the task's classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torchvision  # type: ignore[import-untyped]
from torch import nn

from regathlon_core.errors import UserError
from regathlon_core.features import FeaturePoint

if TYPE_CHECKING:
    from regathlon_core.task import Task
    from regathlon_dg.model_settings import BackboneSettings


class AlexNet(torchvision.models.AlexNet):  # type: ignore[misc]
    """torchvision's AlexNet (Krizhevsky 2014, arXiv 1404.5997), which names its feature points."""

    output_layers = ("classifier.6",)

    def feature_points(self) -> list[FeaturePoint]:
        """Return the outputs of the five convolutions' ReLUs; the last two are the default ones."""
        places = {1: 64, 4: 192, 7: 384, 9: 256, 11: 256}
        return [FeaturePoint(f"features.{at}", channels, default=at > 8) for at, channels in places.items()]


_BLOCKS = {
    "resnet18": (torchvision.models.resnet.BasicBlock, (2, 2, 2, 2)),
    "resnet50": (torchvision.models.resnet.Bottleneck, (3, 4, 6, 3)),
}
_WEIGHTS = {
    "resnet18": torchvision.models.ResNet18_Weights.IMAGENET1K_V1,
    "resnet50": torchvision.models.ResNet50_Weights.IMAGENET1K_V1,
    "alexnet": torchvision.models.AlexNet_Weights.IMAGENET1K_V1,
}
_HEADS = {"resnet18": "fc", "resnet50": "fc", "alexnet": "classifier.6"}


def build_backbone(settings: BackboneSettings, task: Task) -> nn.Module:
    """Build the model that the settings declare for a task's classes.

    Raises:
        UserError: The weights are not there, or are not the network's.
    """
    classes = len(task.classes)
    model = AlexNet(num_classes=classes) if settings.name == "alexnet" else _resnet(settings, classes)
    for relu in model.modules():
        if isinstance(relu, nn.ReLU):
            relu.inplace = False  # features that are noted or dropped must not change afterwards
    if settings.weights != "none":
        _load(model, settings)
    if settings.freeze_norm:
        _freeze_norm(model)
    return model


def _resnet(settings: BackboneSettings, classes: int) -> nn.Module:
    """Return torchvision's ResNet, or one whose groups all have another width."""
    block, counts = _BLOCKS[settings.name]
    model = torchvision.models.ResNet(block, list(counts), num_classes=classes)
    width = getattr(settings, "width", 64)
    if width == 64:
        return model  # type: ignore[no-any-return]
    model.inplanes = width
    model.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
    model.bn1 = nn.BatchNorm2d(width)
    for number, count in enumerate(counts):
        group = model._make_layer(block, width * 2**number, count, stride=2 if number else 1)
        setattr(model, f"layer{number + 1}", group)
    model.fc = nn.Linear(8 * width * block.expansion, classes)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model  # type: ignore[no-any-return]


def _load(model: nn.Module, settings: BackboneSettings) -> None:
    """Load all weights but the classifier's."""
    path = Path(settings.weights).expanduser()
    if settings.weights == "imagenet":
        url: str = _WEIGHTS[settings.name].url
        path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if not path.is_file():
        hint = (
            " Put torchvision's file there, or begin with weights=none."
            if settings.weights == "imagenet"
            else ""
        )
        raise UserError(f"There are no weights of {settings.name} at {path}.{hint}")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for files that are no checkpoints
        raise UserError(
            f"It holds no plain state dict: {str(error).splitlines()[0]}", where=str(path)
        ) from error
    head = _HEADS[settings.name]
    wanted = model.state_dict()
    kept = {name: value for name, value in state.items() if not name.startswith(f"{head}.")}
    for name in wanted:
        fits = name in kept and kept[name].shape == wanted[name].shape
        if not fits and not name.startswith(f"{head}."):
            raise UserError(f"It has no {name} of shape {tuple(wanted[name].shape)}.", where=str(path))
    model.load_state_dict(kept, strict=False)


class FrozenBatchNorm(nn.BatchNorm2d):
    """Batch-norm that stays in evaluation mode whatever ``train()`` says; its scale and shift are trained."""

    def train(self, mode: bool = True) -> FrozenBatchNorm:
        """Stay in evaluation mode."""
        super().train(False)
        return self


def _freeze_norm(model: nn.Module) -> None:
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.__class__ = FrozenBatchNorm  # same parameters, buffers and names
            layer.eval()
