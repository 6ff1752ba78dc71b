"""Pictures of where the full network and one of its sub-networks look."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.evaluation import Evaluation, Findings, Picture
from regathlon_core.evaluations.samples import spread
from regathlon_core.passes import PassRole, run_as
from regathlon_core.subnetworks import subnetwork
from regathlon_core.task import Task
from regathlon_vision.base import ImageTask
from regathlon_vision.evaluations.drawing import as_bytes, enlarged, heat_colours, laid_out
from regathlon_vision.evaluations.grad_cam.functional import grad_cam, map_point, relative
from regathlon_vision.evaluations.sub_network_maps.settings import SubNetworkMapsSettings
from regathlon_vision.evaluations.tasks import shown_split, visible

_LEAST_SIDE = 96


class SubNetworkMaps(Evaluation[SubNetworkMapsSettings]):
    """Draw test images, below them where the full network looks for their classes, and where a sub-network does.

    The metric ``correlation`` is Pearson's between both heat maps of an image, averaged over the images whose maps vary.

    Source: GradAug (Yang, Zhu & Chen 2020, arXiv 2006.07989), Figure 1, which draws class activation maps; with global average
    pooling and a linear classifier Grad-CAM's are those, cut off at 0. Sub-networks normalise by the statistics of the images
    shown, since those of the full network do not fit them.
    """

    def run(
        self, model: nn.Module, task: Task, *, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Findings:
        """Return the picture and how alike the maps are.

        Raises:
            UserError: The task has no images, or the model no maps.
        """
        if not isinstance(task, ImageTask):
            raise UserError(f"{task.settings.name} has no images to draw heat maps on.")
        split = shown_split(task)
        batch = task.batch(split, spread(self.settings.images, task.size(split))).to(device)
        point = map_point(task, model, self.settings.place)

        def narrow(model: nn.Module, inputs: Any) -> Tensor:
            layers = task.output_layers(model)
            with run_as(model, PassRole.SUB), subnetwork(model, self.settings.width, output_layers=layers):
                logits: Tensor = model(inputs)
            return logits

        full = grad_cam(model, point, batch.inputs, batch.targets).cpu()
        sub = grad_cam(model, point, batch.inputs, batch.targets, forward=narrow).cpu()
        pixels = visible(task, batch.inputs.cpu())
        rows = [[enlarged(as_bytes(image), _LEAST_SIDE) for image in pixels]]
        for heat in (relative(full), relative(sub)):
            over = [
                0.5 * image.mean(dim=0) + 0.5 * heat_colours(where)
                for image, where in zip(pixels, heat, strict=True)
            ]
            rows.append([enlarged(as_bytes(image), _LEAST_SIDE) for image in over])
        caption = (
            f"{split} images; where the full network looks for their classes; where its sub-network of width "
            f"{self.settings.width:g} does (red: most)"
        )
        metrics = {"correlation": correlation(full, sub)}
        return Findings(metrics, [Picture("sub_network_maps", caption, laid_out(rows))])


def correlation(first: Tensor, second: Tensor) -> float:
    """Return Pearson's correlation of maps [B, H, W], averaged over pairs that both vary; NaN where none do.

    Example:
        >>> ramp = torch.arange(6.0).reshape(1, 2, 3)
        >>> round(correlation(ramp, 2 * ramp + 1), 6), round(correlation(ramp, -ramp), 6)
        (1.0, -1.0)
    """
    a, b = (
        part.flatten(1).double() - part.flatten(1).double().mean(1, keepdim=True) for part in (first, second)
    )
    spread = a.norm(dim=1) * b.norm(dim=1)
    varies = spread > 0
    return float(((a * b).sum(1)[varies] / spread[varies]).mean())
