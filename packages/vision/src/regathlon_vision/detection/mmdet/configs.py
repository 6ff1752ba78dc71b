"""The configs of MMDetection's two-stage detectors on a ResNet with FPN, as its config files write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regathlon_vision.detection.settings import MMDetSettings

_STRIDES = [4, 8, 16, 32]


def two_stage_config(
    settings: MMDetSettings, classes: int, in_channels: int, *, masks: bool
) -> dict[str, Any]:
    """Return what MMDetection's config files call ``model``.

    With the default settings it is that of ``mask-rcnn_r50_fpn_1x_coco.py`` or ``faster-rcnn_r50_fpn_1x_coco.py``, but for the
    backbone's weights and what is frozen of it, and without a preprocessor, since tasks resize and normalise.

    Args:
        settings: Of the model.
        classes: Without the background.
        in_channels: Of an image.
        masks: Whether it is Mask R-CNN.
    """
    first = settings.width * (1 if settings.depth < 50 else 4)
    channels = settings.channels
    config: dict[str, Any] = {
        "backbone": {
            "type": "ResNet",
            "depth": settings.depth,
            "in_channels": in_channels,
            "base_channels": settings.width,
            "num_stages": 4,
            "out_indices": (0, 1, 2, 3),
            "frozen_stages": settings.stages_frozen - 1,
            "norm_cfg": {"type": "BN", "requires_grad": not settings.norms_frozen},
            "norm_eval": settings.norms_frozen,
            "style": "pytorch",
        },
        "neck": {
            "type": "FPN",
            "in_channels": [first * 2**number for number in range(4)],
            "out_channels": channels,
            "num_outs": 5,
        },
        "rpn_head": {
            "type": "RPNHead",
            "in_channels": channels,
            "feat_channels": channels,
            "anchor_generator": {
                "type": "AnchorGenerator",
                "scales": [settings.anchor_scale],
                "ratios": [0.5, 1.0, 2.0],
                "strides": [*_STRIDES, 64],
            },
            "bbox_coder": _coder([1.0, 1.0, 1.0, 1.0]),
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
            "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
        },
        "roi_head": {
            "type": "StandardRoIHead",
            "bbox_roi_extractor": _extractor(7, channels),
            "bbox_head": {
                "type": "Shared2FCBBoxHead",
                "in_channels": channels,
                "fc_out_channels": 4 * channels,
                "roi_feat_size": 7,
                "num_classes": classes,
                "bbox_coder": _coder([0.1, 0.1, 0.2, 0.2]),
                "reg_class_agnostic": False,
                "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
                "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
            },
        },
        "train_cfg": {
            "rpn": {
                "assigner": _assigner(0.7, 0.3, 0.3, match_low_quality=True),
                "sampler": _sampler(256, 0.5, add_gt_as_proposals=False),
                "allowed_border": -1,
                "pos_weight": -1,
                "debug": False,
            },
            "rpn_proposal": _proposals(2000),
            "rcnn": {
                "assigner": _assigner(0.5, 0.5, 0.5, match_low_quality=masks),
                "sampler": _sampler(512, 0.25, add_gt_as_proposals=True),
                "pos_weight": -1,
                "debug": False,
            },
        },
        "test_cfg": {
            "rpn": _proposals(1000),
            "rcnn": {
                "score_thr": 0.05,
                "nms": {"type": "nms", "iou_threshold": 0.5},
                "max_per_img": 100,
            },
        },
    }
    if masks:
        config["roi_head"] |= {
            "mask_roi_extractor": _extractor(14, channels),
            "mask_head": {
                "type": "FCNMaskHead",
                "num_convs": 4,
                "in_channels": channels,
                "conv_out_channels": channels,
                "num_classes": classes,
                "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True, "loss_weight": 1.0},
            },
        }
        config["train_cfg"]["rcnn"]["mask_size"] = 28
        config["test_cfg"]["rcnn"]["mask_thr_binary"] = 0.5
    return config


def _coder(stds: list[float]) -> dict[str, Any]:
    return {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": stds}


def _extractor(size: int, channels: int) -> dict[str, Any]:
    return {
        "type": "SingleRoIExtractor",
        # torchvision's kernel is there whether or not mmcv was compiled, and the two give the same.
        "roi_layer": {
            "type": "RoIAlign",
            "output_size": size,
            "sampling_ratio": 0,
            "use_torchvision": True,
        },
        "out_channels": channels,
        "featmap_strides": _STRIDES,
    }


def _assigner(positive: float, negative: float, least: float, *, match_low_quality: bool) -> dict[str, Any]:
    return {
        "type": "MaxIoUAssigner",
        "pos_iou_thr": positive,
        "neg_iou_thr": negative,
        "min_pos_iou": least,
        "match_low_quality": match_low_quality,
        "ignore_iof_thr": -1,
    }


def _sampler(count: int, positive: float, *, add_gt_as_proposals: bool) -> dict[str, Any]:
    return {
        "type": "RandomSampler",
        "num": count,
        "pos_fraction": positive,
        "neg_pos_ub": -1,
        "add_gt_as_proposals": add_gt_as_proposals,
    }


def _proposals(before: int) -> dict[str, Any]:
    nms = {"type": "nms", "iou_threshold": 0.7}
    return {"nms_pre": before, "max_per_img": 1000, "nms": nms, "min_bbox_size": 0}
