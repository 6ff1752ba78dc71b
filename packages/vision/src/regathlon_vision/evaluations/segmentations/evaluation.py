"""Predicted masks beside their references."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.evaluation import Evaluation, Findings, Picture
from regathlon_core.evaluations.samples import spread
from regathlon_core.task import Task
from regathlon_vision.base import ImageTask
from regathlon_vision.evaluations.drawing import as_bytes, enlarged, laid_out, palette
from regathlon_vision.evaluations.segmentations.settings import SegmentationsSettings
from regathlon_vision.evaluations.tasks import shown_split, visible

_LEAST_SIDE = 160
_IGNORED = (128, 128, 128)
_WRONG = (220, 30, 30)
_WHITE = torch.full((1, 3), 255, dtype=torch.uint8)


class Segmentations(Evaluation[SegmentationsSettings]):
    """Draw test images in rows: the image, the reference, the prediction, and where they differ.

    The background is black and every other class has a colour, the same in all trials of a task, or white where it is
    the only one; gray pixels do not count;
    red ones are wrong.
    """

    def run(
        self, model: nn.Module, task: Task, *, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Findings:
        """Return the picture."""
        if not isinstance(task, ImageTask) or not task.dense:
            raise UserError(f"{task.settings.name} has no masks to draw.")
        split = shown_split(task)
        others = palette(len(task.classes) - 1) if len(task.classes) > 2 else _WHITE
        colours = torch.cat([torch.zeros_like(_WHITE), others])
        rows = []
        for number in spread(self.settings.images, task.size(split)):
            batch = task.batch(split, number[None]).to(device)
            with torch.no_grad():
                predicted = task.predict(model.eval(), batch).argmax(dim=1)[0].cpu()
            reference = batch.targets[0].cpu()
            counted = reference != task.ignore_index
            wrong = torch.where(((predicted != reference) & counted)[None], _colour(_WRONG), 0)
            panels = [
                as_bytes(visible(task, batch.inputs.cpu())[0]),
                _painted(reference.where(counted, 0), counted, colours),
                _painted(predicted, counted, colours),
                torch.where(counted, wrong, _colour(_IGNORED)).to(torch.uint8),
            ]
            rows.append([enlarged(panel, _LEAST_SIDE) for panel in panels])
        caption = f"{split} images; then the reference, the prediction, and in red where they differ (gray does not count)"
        return Findings(pictures=[Picture("segmentations", caption, laid_out(rows))])


def _colour(colour: tuple[int, int, int]) -> Tensor:
    return torch.tensor(colour, dtype=torch.uint8)[:, None, None]


def _painted(labels: Tensor, counted: Tensor, colours: Tensor) -> Tensor:
    return torch.where(counted, colours[labels].permute(2, 0, 1), _colour(_IGNORED))
