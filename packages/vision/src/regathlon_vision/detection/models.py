"""torchvision's Faster and Mask R-CNN, untrained, with names and state-dict keys as they are there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet  # type: ignore[import-untyped]
from torchvision.models.detection import FasterRCNN, MaskRCNN  # type: ignore[import-untyped]
from torchvision.models.detection.backbone_utils import BackboneWithFPN  # type: ignore[import-untyped]
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead  # type: ignore[import-untyped]
from torchvision.models.detection.image_list import ImageList  # type: ignore[import-untyped]
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor  # type: ignore[import-untyped]
from torchvision.models.detection.rpn import AnchorGenerator  # type: ignore[import-untyped]
from torchvision.ops import MultiScaleRoIAlign  # type: ignore[import-untyped]

from regathlon_core.weights import load_weights, read_weights
from regathlon_vision.detection.images import Images
from regathlon_vision.models.resnet import ResNet

if TYPE_CHECKING:
    from regathlon_core.task import Task
    from regathlon_vision.detection.settings import (
        FasterRCNNSettings,
        MaskRCNNSettings,
        ResNetFPNSettings,
        SmallDetectorSettings,
        SmallFasterRCNNSettings,
        SmallMaskRCNNSettings,
    )

_STEM = ("conv1", "bn1")
_STAGES = (_STEM, "layer1", "layer2", "layer3", "layer4")


class FrozenBatchNorm(nn.BatchNorm2d):
    """Batch-norm that always normalises by its running statistics and whose affine map is not trained.

    Unlike torchvision's ``FrozenBatchNorm2d`` it is a batch-norm layer, so that passes of sub-networks, which those
    statistics do not fit, normalise by their batch (role ``sub`` of ``regathlon_core.run_as``).

    Example:
        >>> norm = FrozenBatchNorm(4).train()
        >>> norm.training, norm.weight.requires_grad
        (False, False)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenBatchNorm:
        """Stay in evaluation mode."""
        super().train(False)
        return self


class PaddedImages(nn.Module):
    """Takes the place of torchvision's ``transform``, for images that come resized and normalised.

    It only fills images up to sides that the feature pyramid divides evenly. In evaluation, boxes refer to the images
    as they came in and masks are probabilities [N, 1, M, M] within their boxes (``paste_masks_in_image`` of torchvision
    makes whole masks of them).

    Args:
        divisor: Sides become multiples of it.
    """

    def __init__(self, divisor: int = 32) -> None:
        super().__init__()
        self.divisor = divisor

    def forward(self, images: Sequence[Tensor], targets: Any = None) -> tuple[ImageList, Any]:
        """Return the images in one tensor, and the targets as they are."""
        together = images if isinstance(images, Images) else Images.of(images)
        height, width = together.padded.shape[-2:]
        padded = F.pad(together.padded, (0, -width % self.divisor, 0, -height % self.divisor))
        return ImageList(padded, list(together.sizes)), targets

    def postprocess(self, result: Any, image_shapes: Any, original_image_sizes: Any) -> Any:
        """Return the detections as they are."""
        return result


def build_mask_rcnn(settings: MaskRCNNSettings, task: Task) -> nn.Module:
    """Build Mask R-CNN for a task's classes.

    Raises:
        UserError: The weights cannot be read or do not fit.
    """
    model: nn.Module = MaskRCNN(_resnet_fpn(settings, task), len(task.classes) + 1)
    return _taking_padded(model)


def build_faster_rcnn(settings: FasterRCNNSettings, task: Task) -> nn.Module:
    """Build Faster R-CNN for a task's classes.

    Raises:
        UserError: The weights cannot be read or do not fit.
    """
    model: nn.Module = FasterRCNN(_resnet_fpn(settings, task), len(task.classes) + 1)
    return _taking_padded(model)


def build_small_mask_rcnn(settings: SmallMaskRCNNSettings, task: Task) -> nn.Module:
    """Build the small Mask R-CNN for a task's classes."""
    channels, classes = settings.channels, len(task.classes) + 1
    masks = {
        "mask_roi_pool": _pool(settings, 7),
        "mask_head": MaskRCNNHeads(channels, (channels, channels), 1),
        "mask_predictor": MaskRCNNPredictor(channels, channels, classes),
    }
    model: nn.Module = MaskRCNN(_small_fpn(settings, task), **_small_parts(settings, classes), **masks)
    return _taking_padded(model, 2 ** (settings.groups - 1))


def build_small_faster_rcnn(settings: SmallFasterRCNNSettings, task: Task) -> nn.Module:
    """Build the small Faster R-CNN for a task's classes."""
    parts = _small_parts(settings, len(task.classes) + 1)
    model: nn.Module = FasterRCNN(_small_fpn(settings, task), **parts)
    return _taking_padded(model, 2 ** (settings.groups - 1))


def load_backbone(body: nn.Module, path: Path) -> None:
    """Load a ResNet's state dict, trained on ImageNet say, into a backbone; the classifier's keys are left out.

    A checkpoint of ``regathlon`` or one that keeps the state dict under ``"model"`` or ``"state_dict"`` works too. It
    is read without unpickling code.

    Args:
        body: The backbone, with torchvision's names (``conv1``, ``bn1``, ``layer1``, ...).
        path: The file.

    Raises:
        UserError: It cannot be read, or its keys or shapes do not fit.
    """
    kept = {key: value for key, value in read_weights(path).items() if not key.startswith("fc.")}
    load_weights(body, kept, where=path)


def _resnet_fpn(settings: ResNetFPNSettings, task: Task) -> nn.Module:
    norm = FrozenBatchNorm if settings.norms_frozen else nn.BatchNorm2d
    network = getattr(resnet, f"resnet{settings.depth}")(norm_layer=norm)
    if task.in_channels != 3:
        network.conv1 = nn.Conv2d(task.in_channels, 64, 7, stride=2, padding=3, bias=False)
    wide = network.fc.in_features
    levels = {f"layer{number}": str(number - 1) for number in range(1, 5)}
    if settings.weights:
        del network.fc
        load_backbone(network, Path(settings.weights).expanduser())
    for stage in _STAGES[: settings.stages_frozen]:
        for name in (stage,) if isinstance(stage, str) else stage:
            network.get_submodule(name).requires_grad_(False)
    sides = [wide // 8, wide // 4, wide // 2, wide]
    backbone: nn.Module = BackboneWithFPN(network, levels, sides, 256)
    return backbone


def _small_fpn(settings: SmallDetectorSettings, task: Task) -> nn.Module:
    network = ResNet(task.in_channels, 1, width=settings.width, blocks=(1,) * settings.groups)
    first = settings.groups - len(settings.anchors)
    levels = {name: str(number) for number, name in enumerate(network.groups[first:])}
    sides = [settings.width * 2**number for number in range(first, settings.groups)]
    backbone: Any = BackboneWithFPN(network, levels, sides, settings.channels)
    backbone.fpn.extra_blocks = None  # no coarser level than the backbone's last
    whole: nn.Module = backbone
    return whole


def _small_parts(settings: SmallDetectorSettings, classes: int) -> dict[str, Any]:
    aspects = ((0.5, 1.0, 2.0),) * len(settings.anchors)
    wide = 4 * settings.channels
    return {
        "num_classes": None,
        "rpn_anchor_generator": AnchorGenerator(tuple((side,) for side in settings.anchors), aspects),
        "rpn_pre_nms_top_n_train": 4 * settings.proposals,
        "rpn_post_nms_top_n_train": 2 * settings.proposals,
        "rpn_pre_nms_top_n_test": 4 * settings.proposals,
        "rpn_post_nms_top_n_test": 2 * settings.proposals,
        "rpn_batch_size_per_image": 64,
        "box_batch_size_per_image": settings.proposals,
        "box_detections_per_img": 2 * settings.proposals,
        "box_roi_pool": _pool(settings, 5),
        "box_head": TwoMLPHead(settings.channels * 25, wide),
        "box_predictor": FastRCNNPredictor(wide, classes),
    }


def _pool(settings: SmallDetectorSettings, size: int) -> nn.Module:
    names = [str(number) for number in range(len(settings.anchors))]
    # Boxes that are larger than the middle between the last two anchors belong to the last level.
    middle = math.sqrt(math.prod(settings.anchors[-2:])) if len(names) > 1 else settings.anchors[0]
    last = settings.groups - 1
    pool: nn.Module = MultiScaleRoIAlign(names, size, 2, canonical_scale=middle, canonical_level=last)
    return pool


def _taking_padded(model: nn.Module, divisor: int = 32) -> nn.Module:
    model.transform = PaddedImages(divisor)
    return model
