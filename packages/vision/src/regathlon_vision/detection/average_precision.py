"""Average precision of boxes and masks, as COCO defines it, computed by faster-coco-eval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster  # type: ignore[import-untyped]
from faster_coco_eval.core import mask as rle  # type: ignore[import-untyped]
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image  # type: ignore[import-untyped]

from regathlon_core.metrics import Metrics
from regathlon_core.task import Batch
from regathlon_vision.detection.coco import Annotations, ImageRecord

_KINDS = {"bbox": "box", "segm": "mask"}
_NAMES = {
    "AP_all": "ap",
    "AP_50": "ap50",
    "AP_75": "ap75",
    "AP_small": "ap_small",
    "AP_medium": "ap_medium",
    "AP_large": "ap_large",
}


class DetectionMetrics(Metrics):
    """Average precision (AP) of boxes and of masks, in [0, 1]: ``box_ap``, ``box_ap50``, ..., ``mask_ap``, ....

    ``ap`` is the mean over the overlaps 0.50, 0.55, ..., 0.95, ``ap50`` and ``ap75`` are at one of them,
    ``ap_small``, ``ap_medium`` and ``ap_large`` count objects of less than 32², up to 96², and more pixels. What no
    object defines is left out. Only images that were seen count; crowds are ignored.

    Args:
        splits: What the files say of every split; the ``record`` of a target is the number of the split and that of the
            image in it. The images of an evaluation belong to one split.
    """

    def __init__(self, splits: Sequence[Annotations]) -> None:
        self._splits = splits
        self._split = splits[0]
        self._masks = False
        self.detections: list[dict[str, Any]] = []
        """In COCO's format of results: ``image_id``, ``category_id``, ``bbox``, ``score``, ``segmentation``."""
        self.seen: list[ImageRecord] = []
        """The images that were evaluated."""

    def update(self, outputs: Any, batch: Batch) -> None:
        """Count detections of a batch: a mapping of boxes, labels, scores and perhaps masks per image."""
        for found, size, target in zip(outputs, batch.inputs.sizes, batch.targets, strict=True):
            split, number = target["record"].tolist()
            self._split = self._splits[split]
            record = self._split.images[number]
            self.seen.append(record)
            self._masks |= "masks" in found
            original = whole_image(found, size, (record.height, record.width))
            self.detections += coco_results(original, record.id, self._split.categories)

    def compute(self) -> dict[str, float]:
        """Return the metrics of all images seen."""
        truth = self.truth()
        metrics: dict[str, float] = {}
        for kind, name in _KINDS.items():
            if kind == "bbox" or self._masks:
                stats = evaluate(truth, self.detections, kind)
                metrics |= {f"{name}_{_NAMES[key]}": value for key, value in stats.items()}
        return metrics

    def truth(self) -> dict[str, Any]:
        """Return the annotations of the images seen, in COCO's format."""
        annotations: list[dict[str, Any]] = []
        for record in self.seen:
            for instance in record.instances:
                box = instance.record["bbox"]
                area = float(instance.record.get("area", box[2] * box[3]))
                entry = {
                    "id": len(annotations) + 1,
                    "image_id": record.id,
                    "category_id": instance.record["category_id"],
                    "bbox": box,
                    "area": area,
                    "iscrowd": int(instance.crowd),
                }
                if instance.mask is not None:
                    entry["segmentation"] = instance.mask
                annotations.append(entry)
        return {
            "images": [record.truth() for record in self.seen],
            "categories": [dict(category) for category in self._split.categories],
            "annotations": annotations,
        }


def evaluate(truth: dict[str, Any], detections: list[dict[str, Any]], kind: str) -> dict[str, float]:
    """Return COCO's average precisions of detections, by the names of faster-coco-eval.

    Args:
        truth: Annotations in COCO's format.
        detections: Results in COCO's format.
        kind: ``"bbox"`` or ``"segm"``.
    """
    defined = any(not entry["iscrowd"] for entry in truth["annotations"])
    if not defined:
        return {}
    reference = COCO(truth, use_deepcopy=True)
    if not detections:
        return {"AP_all": 0.0, "AP_50": 0.0, "AP_75": 0.0}
    run = COCOeval_faster(reference, reference.loadRes(detections), iouType=kind)
    run.run()
    return {key: value for key, value in run.stats_as_dict.items() if key in _NAMES and value > -1}


def whole_image(
    found: Mapping[str, Tensor], size: tuple[int, int], original: tuple[int, int]
) -> dict[str, Tensor]:
    """Return detections in an image in terms of the image before it was resized.

    Args:
        found: ``boxes`` [N, 4] in pixels of the resized image; perhaps ``masks`` [N, 1, M, M], probabilities within the
            boxes; other entries stay as they are.
        size: Height and width of the resized image.
        original: Height and width of the original.

    Returns:
        The same with boxes in pixels of the original, and masks bool [N, H, W] of probability one half or more.
    """
    boxes = found["boxes"]
    scale = boxes.new_tensor([original[1] / size[1], original[0] / size[0]]).repeat(2)
    moved = {**found, "boxes": boxes * scale}
    if "masks" in found:
        moved["masks"] = paste_masks_in_image(found["masks"], moved["boxes"], original)[:, 0] >= 0.5
    return moved


def coco_results(
    found: Mapping[str, Tensor], image: int, categories: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the detections of an image in COCO's format of results.

    Args:
        found: What ``whole_image`` returns.
        image: The image's id.
        categories: Label k is entry k-1.
    """
    boxes = found["boxes"].detach().double().cpu()
    corners = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist()
    results = [
        {"image_id": image, "category_id": categories[label - 1]["id"], "bbox": box, "score": score}
        for box, label, score in zip(corners, found["labels"].tolist(), found["scores"].tolist(), strict=True)
    ]
    if "masks" in found:
        masks = found["masks"].cpu().numpy().astype(np.uint8)
        for result, mask in zip(results, masks, strict=True):
            result["segmentation"] = rle.encode(np.asfortranarray(mask))
    return results
