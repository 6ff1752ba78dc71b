"""MMDetection's Faster and Mask R-CNN as models of our detection tasks."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from regathlon_core.errors import UserError
from regathlon_vision.detection.images import Images
from regathlon_vision.detection.mmdet.configs import two_stage_config
from regathlon_vision.detection.models import PaddedImages, load_backbone
from regathlon_vision.detection.regions import pooled_boxes
from regathlon_vision.detection.stages import Trained, TwoStages

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what they warn of when they are imported is not ours to mend
    import mmdet.models  # type: ignore[import-not-found]  # noqa: F401  registers what configs name
    from mmdet.models.detectors.two_stage import TwoStageDetector  # type: ignore[import-not-found]
    from mmdet.registry import MODELS  # type: ignore[import-not-found]
    from mmdet.structures import DetDataSample  # type: ignore[import-not-found]
    from mmdet.structures.bbox import bbox2roi  # type: ignore[import-not-found]
    from mmdet.structures.mask import BitmapMasks  # type: ignore[import-not-found]
    from mmengine.config import ConfigDict  # type: ignore[import-not-found]
    from mmengine.logging import MMLogger  # type: ignore[import-not-found]
    from mmengine.model import BaseModule  # type: ignore[import-not-found]
    from mmengine.structures import InstanceData  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from regathlon_core.task import Task
    from regathlon_vision.detection.settings import MMDetFasterRCNNSettings, MMDetMaskRCNNSettings

_THEIR_NAMES = {"backbone.body.": "backbone.", "backbone.fpn.": "neck."}


class Pyramid(BaseModule):  # type: ignore[misc]
    """mmdet's backbone and neck as one module, which sub-networks are narrow in.

    Args:
        body: Config of the backbone.
        fpn: Config of the neck.
    """

    def __init__(self, body: Mapping[str, Any], fpn: Mapping[str, Any]) -> None:
        super().__init__()
        self.body = MODELS.build(body)
        self.fpn = MODELS.build(fpn)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the levels of the pyramid, from fine to coarse."""
        levels: tuple[Tensor, ...] = self.fpn(self.body(images))
        return levels


class MMDetTwoStage(TwoStageDetector):  # type: ignore[misc]
    """mmdet's ``TwoStageDetector``, called as detection tasks call their models.

    Backbone, neck, heads, losses, samplers and what is done with their outputs are mmdet's, built by its registry. New are the
    calls: ``model(images, targets)`` returns losses by name in training mode, ``model(images)`` a mapping per image in
    evaluation mode, as torchvision's detectors do. ``mmdet_state_dict`` gives the weights mmdet's own names.

    Args:
        config: What mmdet's config files call ``model``, without a preprocessor.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        parts = ConfigDict(config)
        super().__init__(
            backbone=ConfigDict(type=Pyramid, body=parts.backbone, fpn=parts.neck),
            rpn_head=parts.rpn_head,
            roi_head=parts.roi_head,
            train_cfg=parts.train_cfg,
            test_cfg=parts.test_cfg,
        )
        self.transform = PaddedImages(32)

    def forward(self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]] | None = None) -> Any:
        """Return losses by name in training mode, a mapping of detections per image in evaluation mode.

        Args:
            images: Normalised, [3, H, W] each.
            targets: Boxes, labels in 1..K and, for Mask R-CNN, masks per image.

        Raises:
            UserError: Mask R-CNN is to learn from objects without masks.
        """
        together, _ = self.transform(images)
        samples = _samples(together.tensors, together.image_sizes)
        if not self.training:
            return self._detections(together.tensors, samples)
        for sample, target in zip(samples, targets or (), strict=True):
            if self.roi_head.with_mask and "masks" not in target:
                raise UserError(
                    "mmdet_mask_rcnn learns masks, and an image has objects without: take mmdet_faster_rcnn."
                )
            sample.gt_instances = _instances(target, sample.img_shape)
        return _scalars(self.loss(together.tensors, samples))

    def two_stages(self) -> TwoStages:
        """Return what detection tasks ask beside that."""
        return _Stages(self)

    def _detections(self, images: Tensor, samples: list[Any]) -> list[dict[str, Tensor]]:
        levels, heads = self.extract_feat(images), self.roi_head
        proposals = self.rpn_head.predict(levels, samples, rescale=False)
        metas = [sample.metainfo for sample in samples]
        found = heads.predict_bbox(levels, metas, proposals, heads.test_cfg, rescale=False)
        results = [{"boxes": one.bboxes, "labels": one.labels + 1, "scores": one.scores} for one in found]
        if heads.with_mask:
            masks = self._masks(levels, [one.bboxes for one in found], [one.labels for one in found])
            for result, own in zip(results, masks, strict=True):
                result["masks"] = own
        return results

    def _masks(
        self, levels: Sequence[Tensor], boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """Return the probabilities of every box's own class within it, [N, 1, M, M] per image."""
        regions = bbox2roi(list(boxes))
        logits = self.roi_head._mask_forward(levels, regions)["mask_preds"]
        own = logits[torch.arange(len(logits), device=logits.device), torch.cat(list(labels))]
        return own.sigmoid()[:, None].split([len(each) for each in boxes])  # type: ignore[no-any-return]


class _Stages(TwoStages):
    """What tasks ask of mmdet's detectors; the background, which is mmdet's last class, becomes the first."""

    heads = ("rpn_head", "roi_head")

    def learn(self, images: Images, targets: Sequence[Mapping[str, Tensor]]) -> Trained:
        """Return what a pass that learns from the objects leaves."""
        model, heads = self.model, self.model.roi_head
        regions: list[tuple[Any, ...]] = []
        logits: list[Tensor] = []
        hooks = (
            heads.bbox_roi_extractor.register_forward_hook(lambda module, args, out: regions.append(args)),
            heads.bbox_head.register_forward_hook(lambda module, args, out: logits.append(out[0])),
        )
        training = model.training
        try:
            model.training = True
            losses = model(images, targets)
        finally:
            model.training = training
            for hook in hooks:
                hook.remove()
        levels, found = regions[-1]  # a sub-network is traced before it first runs
        features = {str(number): level for number, level in enumerate(levels)}
        boxes = [found[found[:, 0] == number, 1:] for number in range(len(images))]
        return Trained(losses, features, tuple(images.sizes), boxes, logits[-1].roll(1, dims=1), self)

    def class_logits(
        self, features: Mapping[str, Tensor], boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Return the class logits of boxes."""
        pooled = self.model.roi_head.bbox_roi_extractor(tuple(features.values()), bbox2roi(list(boxes)))
        return self._logits(pooled)

    def explained_logits(self, images: Images, boxes: Tensor) -> Tensor:
        """Return the class logits of one box per image."""
        together, _ = self.model.transform(images)
        extractor = self.model.roi_head.bbox_roi_extractor
        pool = extractor.roi_layers[0]
        pooled = pooled_boxes(
            self.model.backbone(together.tensors)[: extractor.num_inputs],
            boxes,
            height=together.tensors.shape[-2],
            size=pool.output_size,
            samples=pool.sampling_ratio,
            canonical=(extractor.finest_scale, 2),
            aligned=pool.aligned,
        )
        return self._logits(pooled)

    def _logits(self, pooled: Tensor) -> Tensor:
        logits: Tensor = self.model.roi_head.bbox_head(pooled)[0].roll(1, dims=1)
        return logits


def build_mask_rcnn(settings: MMDetMaskRCNNSettings, task: Task) -> MMDetTwoStage:
    """Build MMDetection's Mask R-CNN for a task's classes.

    Raises:
        UserError: The weights cannot be read or do not fit.
    """
    return _built(settings, task, masks=True)


def build_faster_rcnn(settings: MMDetFasterRCNNSettings, task: Task) -> MMDetTwoStage:
    """Build MMDetection's Faster R-CNN for a task's classes.

    Raises:
        UserError: The weights cannot be read or do not fit.
    """
    return _built(settings, task, masks=False)


def mmdet_state_dict(model: MMDetTwoStage) -> dict[str, Tensor]:
    """Return a model's weights by the names of mmdet's own ``MaskRCNN`` or ``FasterRCNN`` of the same config.

    Args:
        model: A model that ``regathlon`` built or trained.
    """
    found = {}
    for key, value in model.state_dict().items():
        ours = next((part for part in _THEIR_NAMES if key.startswith(part)), "")
        found[_THEIR_NAMES.get(ours, "") + key.removeprefix(ours)] = value
    return found


def _built(
    settings: MMDetMaskRCNNSettings | MMDetFasterRCNNSettings, task: Task, *, masks: bool
) -> MMDetTwoStage:
    model = MMDetTwoStage(two_stage_config(settings, len(task.classes), task.in_channels, masks=masks))
    with _quiet():
        model.init_weights()
    if settings.weights:
        load_backbone(model.backbone.body, Path(settings.weights).expanduser())
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep mmengine from printing how each parameter was initialised."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _samples(images: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Any]:
    """Return what mmdet wants to know of images that lie in one tensor."""
    together = tuple(images.shape[-2:])
    return [
        DetDataSample(
            metainfo={
                "img_shape": size,
                "ori_shape": size,
                "scale_factor": (1.0, 1.0),
                "pad_shape": tuple(side + -side % 32 for side in size),
                "batch_input_shape": together,
            }
        )
        for size in sizes
    ]


def _instances(target: Mapping[str, Tensor], size: tuple[int, int]) -> Any:
    """Return an image's objects as mmdet keeps them: classes count from 0."""
    instances = InstanceData(bboxes=target["boxes"], labels=target["labels"] - 1)
    if "masks" in target:
        instances.masks = BitmapMasks(target["masks"].cpu().numpy(), *size)
    return instances


def _scalars(losses: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the terms of mmdet's loss, each the sum over levels; what is only measured (accuracy) is left out."""
    return {
        name: sum((level.mean() for level in term), torch.tensor(0.0, device=term[0].device))
        if isinstance(term, (list, tuple))
        else term.mean()
        for name, term in losses.items()
        if "loss" in name
    }
