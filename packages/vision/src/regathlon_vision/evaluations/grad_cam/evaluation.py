"""Pictures of where a classifier looks."""

from __future__ import annotations

import torch
from torch import nn

from regathlon_core.errors import UserError
from regathlon_core.evaluation import Evaluation, Findings, Picture
from regathlon_core.evaluations.samples import spread
from regathlon_core.task import Task
from regathlon_vision.base import ImageTask
from regathlon_vision.evaluations.drawing import as_bytes, enlarged, heat_colours, laid_out
from regathlon_vision.evaluations.grad_cam.functional import grad_cam, map_point, relative
from regathlon_vision.evaluations.grad_cam.settings import GradCamSettings
from regathlon_vision.evaluations.tasks import shown_split, visible

_LEAST_SIDE = 96
_COLUMNS = 8


class GradCam(Evaluation[GradCamSettings]):
    """Draw test images, evenly spaced over the split, and below them their heat maps towards the predicted classes.

    Reds are where the class is seen. See ``grad_cam`` for the maths.
    """

    def run(
        self, model: nn.Module, task: Task, *, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Findings:
        """Return the picture."""
        if not isinstance(task, ImageTask):
            raise UserError(f"{task.settings.name} has no images to draw heat maps on.")
        split = shown_split(task)
        count = min(self.settings.images, task.size(split))
        index = spread(count, task.size(split))
        batch = task.batch(split, index).to(device)
        point = map_point(task, model, self.settings.place)
        heat = relative(grad_cam(model, point, batch.inputs)).cpu()
        pixels = visible(task, batch.inputs.cpu())
        over = [
            0.5 * image.mean(dim=0) + 0.5 * heat_colours(where)
            for image, where in zip(pixels, heat, strict=True)
        ]
        sheets = []
        for start in range(0, count, _COLUMNS):
            part = slice(start, start + _COLUMNS)
            for images in (pixels[part], over[part]):
                row = [enlarged(as_bytes(image), _LEAST_SIDE) for image in images]
                blank = torch.full_like(row[0], 255)
                sheets.append(row + [blank] * (min(_COLUMNS, count) - len(row)))
        caption = f"{split} images and where the model looks for the classes it predicts (red: most)"
        return Findings(pictures=[Picture("heat_maps", caption, laid_out(sheets))])
