"""Pictures of what a detector finds."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks  # type: ignore[import-untyped]

from regathlon_core.errors import UserError
from regathlon_core.evaluation import Evaluation, Findings, Picture
from regathlon_core.task import Split, Task
from regathlon_vision.detection.average_precision import whole_image
from regathlon_vision.detection.task import DetectionTask
from regathlon_vision.evaluations.detections.settings import DetectionsSettings

_LEAST_SIDE = 320  # pixels of a picture's longer side, so that boxes of small images can be seen
_NAMED = 12  # objects in an image, beyond which names would hide it
_GAP = 8


class Detections(Evaluation[DetectionsSettings]):
    """Draw the first test images twice: the annotated objects, and the detections of a certain score.

    Every class has a colour of its own, the same in all pictures of a task, so that those of several trials can be laid
    side by side.
    """

    def run(
        self, model: nn.Module, task: Task, *, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Findings:
        """Return the pictures, and the mean number of detections drawn and of objects per image."""
        if not isinstance(task, DetectionTask):
            raise UserError(f"{task.settings.name} has no images with boxes to draw on.")
        split: Split = "test" if task.size("test") else "val"
        index = torch.arange(min(self.settings.images, task.size(split)))
        pictures, drawn, there = [], 0, 0
        for one in torch.split(index, 1):
            batch = task.batch(split, one)
            record = task.annotations[split].images[int(one)]
            with torch.no_grad():
                (found,) = task.predict(model.eval(), batch.to(device))
            kept = {
                name: value[found["scores"] >= self.settings.score].cpu() for name, value in found.items()
            }
            size = batch.inputs.sizes[0]
            found_here = whole_image(kept, size, (record.height, record.width))
            # Annotations go the way that detections go: from the resized image back to the original.
            boxes = {"boxes": batch.targets[0]["boxes"], "labels": batch.targets[0]["labels"]}
            truth = whole_image(boxes, size, (record.height, record.width))
            if "masks" in batch.targets[0]:
                masks = batch.targets[0]["masks"][:, None].float()
                resized = F.interpolate(masks, (record.height, record.width), mode="nearest")
                truth["masks"] = resized[:, 0] > 0
            image = torch.from_numpy(task.read(split, int(one))).permute(2, 0, 1)
            halves = [draw_objects(image, objects, task.classes) for objects in (truth, found_here)]
            gap = halves[0].new_full((3, halves[0].shape[1], _GAP), 255)
            drawn, there = drawn + len(kept["labels"]), there + len(truth["labels"])
            pictures.append(
                Picture(
                    name=f"{split}-{record.id}",
                    caption=f"{record.file}: {len(truth['labels'])} annotated objects (left), "
                    f"{len(kept['labels'])} detections of score {self.settings.score:g} or more (right)",
                    image=torch.cat([halves[0], gap, halves[1]], dim=2),
                )
            )
        count = max(len(index), 1)
        return Findings({"detections": drawn / count, "objects": there / count}, pictures)


def draw_objects(image: Tensor, objects: Mapping[str, Tensor], classes: Sequence[str]) -> Tensor:
    """Draw boxes, masks, names and scores over an image, enlarged by a whole number where it is small.

    Args:
        image: uint8 [3, H, W].
        objects: ``boxes`` [N, 4] in pixels, ``labels`` [N] in 1..K; perhaps ``masks`` bool [N, H, W], ``scores`` [N].
        classes: Names of labels 1 to K.

    Returns:
        uint8 [3, H', W'].

    Example:
        >>> objects = {"boxes": torch.tensor([[1.0, 1.0, 5.0, 5.0]]), "labels": torch.tensor([1])}
        >>> draw_objects(torch.zeros(3, 8, 8, dtype=torch.uint8), objects, ["nucleus"]).shape
        torch.Size([3, 320, 320])
    """
    factor = max(1, math.ceil(_LEAST_SIDE / max(image.shape[-2:])))
    enlarged = _enlarged(image, factor)
    labels = objects["labels"].tolist()
    if not labels:
        return enlarged
    # With one class, every object has a colour of its own, so that neighbours can be told apart.
    kinds = range(len(labels)) if len(classes) == 1 else labels
    colours = [_colour(kind) for kind in kinds]
    if "masks" in objects:
        masks = torch.stack([_enlarged(mask[None], factor)[0] for mask in objects["masks"]])
        enlarged = draw_segmentation_masks(enlarged, masks, alpha=0.45, colors=colours)
    names: list[str] | None = None
    if len(labels) <= _NAMED:
        names = ["" if len(classes) == 1 else classes[label - 1] for label in labels]
        if "scores" in objects:
            scores = [f"{score:.2f}" for score in objects["scores"].tolist()]
            names = [f"{name} {score}".strip() for name, score in zip(names, scores, strict=True)]
    boxes = objects["boxes"] * factor
    drawn: Tensor = draw_bounding_boxes(enlarged, boxes, labels=names, colors=colours, width=2)
    return drawn


def _enlarged(image: Tensor, factor: int) -> Tensor:
    return image.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)


def _colour(kind: int) -> tuple[int, int, int]:
    """Return a bright colour; steps of the golden section keep neighbouring numbers apart."""
    red, green, blue = colorsys.hsv_to_rgb(kind * 0.618034 % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
