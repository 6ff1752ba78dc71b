"""Relevance rank accuracy."""

from __future__ import annotations

import functools
from pathlib import Path
from xml.etree import ElementTree

import torch
from torch import Tensor, nn

from regathlon_core.attribution import lrp, relevance_of_positions, relevance_rank_accuracy
from regathlon_core.errors import UserError
from regathlon_core.evaluation import Evaluation, Findings
from regathlon_core.evaluations.samples import spread
from regathlon_core.task import Batch, Task
from regathlon_data import data_root
from regathlon_vision.evaluations.folders import images_of_classes, input_size, pixel_task
from regathlon_vision.evaluations.relevance_rank.settings import RelevanceRankSettings
from regathlon_vision.images import decode, read_stack

_BATCH = 32


class RelevanceRank(Evaluation[RelevanceRankSettings]):
    """Measure how much of an explanation lies on the object, for images with masks or boxes.

    ``accuracy`` is |n most relevant pixels ∩ object| / n for an object of n pixels, averaged over images;
    ``object`` is the objects' mean share of the image, which is what chance would reach; ``images`` is their number.
    Images and annotations are resized alike to the size of the model's inputs.

    Source: Arras, Osman and Samek, "CLEVR-XAI", Information Fusion 2022, eq. 2.
    """

    def run(
        self, model: nn.Module, task: Task, *, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Findings:
        """Measure a model.

        Raises:
            UserError: Folders are missing, a file is damaged, or there are no annotated images.
        """
        images = pixel_task(task)
        root = data_root(self.data)
        listing, _ = images_of_classes(root / self.settings.images, task.classes)
        places = [annotation_of(root / self.settings.annotations, path) for path in listing.paths]
        annotated = [i for i, place in enumerate(places) if place is not None]
        if not annotated:
            raise UserError(
                "There is no mask (<name>.png) or box (<name>.xml) of any image in it.",
                where=str(root / self.settings.annotations),
            )
        if 0 < self.settings.samples < len(annotated):
            annotated = [annotated[i] for i in spread(self.settings.samples, len(annotated)).tolist()]
        attribute = functools.partial(lrp, composite=self.settings.composite)
        size = input_size(task)
        accuracies, shares = [], []
        for start in range(0, len(annotated), _BATCH):
            part = annotated[start : start + _BATCH]
            pixels = read_stack([listing.paths[i] for i in part], size=size).float() / 255
            masks = torch.stack([_mask(places[i], listing.paths[i], size) for i in part])
            batch = Batch(images.normalized(pixels), listing.labels[part]).to(device)
            relevance = relevance_of_positions(model, task, batch, generator, attribute).cpu()
            accuracies.append(relevance_rank_accuracy(relevance, masks))
            shares.append(masks.flatten(1).float().mean(1))
        found, share = torch.cat(accuracies), torch.cat(shares)
        known = ~found.isnan()
        if not bool(known.any()):
            raise UserError(
                f"{self.settings.name}: every annotation is empty at {size[0]} x {size[1]} pixels."
            )
        return Findings(
            {
                "accuracy": float(found[known].double().mean()),
                "object": float(share[known].double().mean()),
                "images": float(known.sum()),
            }
        )


def annotation_of(folder: Path, image: Path) -> Path | None:
    """Return the mask or the box file of an image, or None."""
    for parent in (folder / image.parent.name, folder):
        for ending in (".png", ".xml"):
            place = parent / f"{image.stem}{ending}"
            if place.is_file():
                return place
    return None


def _mask(annotation: Path | None, image: Path, size: tuple[int, int]) -> Tensor:
    assert annotation is not None
    if annotation.suffix == ".xml":
        height, width = decode(image).shape[:2]
        return boxes_mask(annotation, (height, width), size)
    mask: Tensor = read_stack([annotation], mode="P", size=size)[0, 0] > 0
    return mask


def boxes_mask(path: Path, space: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return where the boxes of a Pascal VOC file lie: bool [H, W].

    Args:
        path: The file.
        space: Height and width of the image, in which boxes are given.
        size: Height and width of the result. A box covers at least one pixel.

    Raises:
        UserError: The file is damaged or holds no box.
    """
    mask = torch.zeros(size, dtype=torch.bool)
    try:
        boxes = [
            [float(box.findtext(name) or "") for name in ("ymin", "xmin", "ymax", "xmax")]
            for box in ElementTree.parse(path).getroot().iter("bndbox")
        ]
    except (ElementTree.ParseError, OSError, ValueError) as error:
        raise UserError(f"It is no file of boxes: {error}.", where=str(path)) from error
    if not boxes:
        raise UserError("It holds no box.", where=str(path))
    for top, left, bottom, right in boxes:
        rows, columns = (
            slice(
                min(round(low * new / old), new - 1),
                max(round(high * new / old), min(round(low * new / old), new - 1) + 1),
            )
            for low, high, old, new in (
                (top, bottom, space[0], size[0]),
                (left, right, space[1], size[1]),
            )
        )
        mask[rows, columns] = True
    return mask
