"""What detection tasks ask of a detector, whichever library it comes from."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.features import FeaturePoint
from regathlon_vision.detection.images import Images
from regathlon_vision.detection.regions import pooled_boxes
from regathlon_vision.models import points


class Trained(NamedTuple):
    """What a pass of a detector leaves that learns from objects.

    Attributes:
        losses: The model's losses by name, scalars.
        features: The levels of the feature pyramid that the second stage looks at, by name, [B, C, H, W].
        sizes: Height and width of every image.
        boxes: The regions that the second stage was trained on, float32 [R, 4] per image.
        logits: Their class logits, [sum of R, K + 1]; the background is the first class.
        stages: The detector that made them.
    """

    losses: dict[str, Tensor]
    features: dict[str, Tensor]
    sizes: tuple[tuple[int, int], ...]
    boxes: list[Tensor]
    logits: Tensor
    stages: TwoStages


class TwoStages(abc.ABC):
    """A detector of two stages as the detection tasks see it: a backbone with a pyramid, proposals, and their classes.

    The model is an ordinary module. ``model(images, targets)`` returns its losses by name in training mode, ``model(images)``
    detections in evaluation mode, a mapping per image: ``boxes``, ``labels`` in 1..K, ``scores`` and perhaps ``masks``,
    probabilities [N, 1, M, M] within the boxes. All that tasks want beside that is asked here.

    Args:
        model: The detector.
    """

    backbone = "backbone"
    """Name of the backbone with its pyramid: a module that takes images and returns the levels."""
    body = "body"
    """Name, within it, of the residual network."""
    pyramid = "fpn"
    """Name, within it, of the pyramid, whose outputs sub-networks keep."""
    heads: tuple[str, ...] = ()
    """Names of what follows the pyramid."""

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model

    @abc.abstractmethod
    def learn(self, images: Images, targets: Sequence[Mapping[str, Tensor]]) -> Trained:
        """Return what a pass that learns from the objects leaves; in evaluation mode too, where the layers stay in it."""

    @abc.abstractmethod
    def class_logits(
        self, features: Mapping[str, Tensor], boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Return the class logits of boxes, [sum of R, K + 1], as the second stage computes them.

        Args:
            features: The levels of the pyramid, as in ``Trained``.
            boxes: For every image [R, 4], in pixels.
            sizes: Height and width of every image.
        """

    @abc.abstractmethod
    def explained_logits(self, images: Images, boxes: Tensor) -> Tensor:
        """Return the class logits [B, K + 1] of one box per image [B, 4], in calls that relevance propagation follows."""

    def feature_points(self) -> list[FeaturePoint]:
        """Return the places where feature-level regularizers may act: the blocks of the residual network."""
        name = f"{self.backbone}.{self.body}"
        return points.residual_points(self.model.get_submodule(name), f"{name}.")


class TorchvisionStages(TwoStages):
    """torchvision's two-stage detectors whose ``transform`` is ``PaddedImages``."""

    heads = ("rpn", "roi_heads")

    def learn(self, images: Images, targets: Sequence[Mapping[str, Tensor]]) -> Trained:
        """Return what a pass that learns from the objects leaves."""
        model = self.model
        regions: list[tuple[Any, ...]] = []
        logits: list[Tensor] = []
        hooks = (
            model.roi_heads.box_roi_pool.register_forward_hook(
                lambda module, args, out: regions.append(args)
            ),
            model.roi_heads.box_predictor.register_forward_hook(
                lambda module, args, out: logits.append(out[0])
            ),
        )
        parts = (
            model,
            model.rpn,
            model.roi_heads,
        )  # where flags decide whether losses or detections are made
        flags = [part.training for part in parts]
        try:
            for part in parts:
                part.training = True
            losses = model(images, targets)
        finally:
            for part, training in zip(parts, flags, strict=True):
                part.training = training
            for hook in hooks:
                hook.remove()
        features, boxes, sizes = regions[-1]  # a sub-network is traced before it first runs
        return Trained(losses, dict(features), tuple(sizes), list(boxes), logits[-1], self)

    def class_logits(
        self, features: Mapping[str, Tensor], boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Return the class logits of boxes."""
        heads = self.model.roi_heads
        pooled = heads.box_roi_pool(features, list(boxes), list(sizes))
        logits: Tensor = heads.box_predictor(heads.box_head(pooled))[0]
        return logits

    def explained_logits(self, images: Images, boxes: Tensor) -> Tensor:
        """Return the class logits of one box per image."""
        heads = self.model.roi_heads
        together, _ = self.model.transform(images)
        features = self.model.backbone(together.tensors)
        pool = heads.box_roi_pool
        pooled = pooled_boxes(
            [features[name] for name in pool.featmap_names if name in features],
            boxes,
            height=together.tensors.shape[-2],
            size=pool.output_size,
            samples=pool.sampling_ratio,
            canonical=(pool.canonical_scale, pool.canonical_level),
        )
        logits: Tensor = heads.box_predictor(heads.box_head(pooled))[0]
        return logits


def two_stages(model: nn.Module) -> TwoStages:
    """Return a detector as detection tasks see it: what its own ``two_stages()`` says, else one of torchvision's.

    Raises:
        UserError: The model is neither.

    Example:
        >>> from regathlon_vision.detection import DetectionScenesTask, SmallFasterRCNNSettings
        >>> model = SmallFasterRCNNSettings(width=4, channels=8).build(DetectionScenesTask())
        >>> stages = two_stages(model)
        >>> stages.heads, stages.feature_points()[0].name
        (('rpn', 'roi_heads'), 'backbone.body.layer1.0')
    """
    own = getattr(model, "two_stages", None)
    if own is not None:
        stages: TwoStages = own()
        return stages
    if not hasattr(model, "roi_heads"):
        raise UserError(
            f"{type(model).__name__} is no detector of two stages of torchvision's, and has no method two_stages() that "
            "returns a regathlon_vision.detection.TwoStages."
        )
    return TorchvisionStages(model)
