"""Heat maps of relevance."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from regathlon_core.attribution import lrp, relevance_of_positions
from regathlon_core.errors import UserError
from regathlon_core.evaluation import Evaluation, Findings, Picture
from regathlon_core.evaluations.samples import spread
from regathlon_core.task import Task
from regathlon_vision.base import ImageTask
from regathlon_vision.evaluations.drawing import as_bytes, enlarged, laid_out
from regathlon_vision.evaluations.heat_maps.settings import HeatMapsSettings
from regathlon_vision.evaluations.tasks import shown_split, visible

_LEAST_SIDE = 96
_COLUMNS = 8


class HeatMaps(Evaluation[HeatMapsSettings]):
    """Draw test images, and below them how relevant their pixels are to the true class: red for it, blue against it."""

    def run(
        self, model: nn.Module, task: Task, *, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Findings:
        """Return the picture.

        Raises:
            UserError: The task's inputs are no images.
        """
        if not isinstance(task, ImageTask):
            raise UserError(f"{task.settings.name} has no images to draw heat maps of.")
        split = shown_split(task)
        count = min(self.settings.images, task.size(split))
        batch = task.batch(split, spread(count, task.size(split))).to(device)
        attribute = functools.partial(lrp, composite=self.settings.composite)
        relevance = relevance_of_positions(model, task, batch, generator, attribute).cpu()
        pixels = visible(task, batch.inputs.cpu())
        rows = []
        for start in range(0, count, _COLUMNS):
            part = slice(start, start + _COLUMNS)
            for images in (pixels[part], signed_colours(relevance[part])):
                row = [enlarged(as_bytes(image), _LEAST_SIDE) for image in images]
                rows.append(row + [torch.full_like(row[0], 255)] * (min(_COLUMNS, count) - len(row)))
        caption = (
            f"{split} images, and their pixels' relevance to the true class (red: for it, blue: against it)"
        )
        return Findings(pictures=[Picture("relevance", caption, laid_out(rows))])


def signed_colours(relevance: Tensor) -> Tensor:
    """Return colours of relevance: [B, H, W] to [B, 3, H, W] in [0, 1].

    White is 0, red the most there is in the image, blue as much against it. The strongest hundredth of the pixels is full
    colour, so that one pixel does not make all others pale.

    Example:
        >>> signed_colours(torch.tensor([[[1.0, 0.0, -1.0]]]))[0].permute(1, 2, 0).tolist()
        [[[1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0]]]
    """
    size = relevance.abs().flatten(1).float()
    top = size.quantile(0.99, dim=1)
    top = torch.where(top > 0, top, size.amax(1)).clamp(min=torch.finfo(torch.float32).tiny)
    scaled = (relevance.float() / top[:, None, None]).clamp(-1, 1)
    return torch.stack([1 - (-scaled).clamp(min=0), 1 - scaled.abs(), 1 - scaled.clamp(min=0)], dim=1)
