"""Pictures of clouds."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn

from regathlon_core.attribution import lrp, relevance_of_positions
from regathlon_core.errors import UserError
from regathlon_core.evaluation import Evaluation, Findings, Picture
from regathlon_core.evaluations.samples import spread
from regathlon_core.task import Task
from regathlon_points.classification.task import PointClassification
from regathlon_points.evaluations.relevance_clouds.settings import RelevanceCloudsSettings

_SIDE, _COLUMNS = 192, 4
_RADIUS = 2  # of a point, pixels
_TURN, _TILT = math.radians(35), math.radians(25)


class RelevanceClouds(Evaluation[RelevanceCloudsSettings]):
    """Draw test clouds, seen from the side and a little from above: red points speak for the true class, blue against."""

    def run(
        self, model: nn.Module, task: Task, *, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Findings:
        """Return the picture.

        Raises:
            UserError: The task's inputs are no point clouds, or it has no test clouds.
        """
        if not isinstance(task, PointClassification) or not task.size("test"):
            raise UserError(f"{task.settings.name} has no test clouds of points to draw.")
        batch = task.batch("test", spread(self.settings.clouds, task.size("test"))).to(device)
        attribute = functools.partial(lrp, composite=self.settings.composite)
        relevance = relevance_of_positions(model, task, batch, generator, attribute).cpu()
        images = [
            drawn(cloud[:3], colours(values))
            for cloud, values in zip(batch.inputs.cpu(), relevance, strict=True)
        ]
        images += [torch.full_like(images[0], 255)] * (-len(images) % _COLUMNS)
        rows = [torch.cat(images[at : at + _COLUMNS], dim=2) for at in range(0, len(images), _COLUMNS)]
        names = ", ".join(task.classes[label] for label in batch.targets.tolist())
        caption = f"Test clouds ({names}); red points speak for the class, blue against it, gray neither"
        return Findings(pictures=[Picture("relevance", caption, torch.cat(rows, dim=1))])


def colours(relevance: Tensor) -> Tensor:
    """Return colours of points: [N] to uint8 [N, 3]; light gray is 0, red the most there is, blue as much against.

    The strongest twentieth of the points is full colour, so that one point does not make all others pale.

    Example:
        >>> colours(torch.tensor([1.0, 0.0, -1.0])).tolist()
        [[220, 20, 20], [205, 205, 205], [20, 20, 220]]
    """
    top = relevance.abs().float().quantile(0.95)
    top = torch.where(top > 0, top, relevance.abs().max()).clamp(min=torch.finfo(torch.float32).tiny)
    strength = (relevance.float() / top).clamp(-1, 1)[:, None]
    gray, red, blue = (
        torch.tensor(value) for value in ((205.0, 205.0, 205.0), (220.0, 20.0, 20.0), (20.0, 20.0, 220.0))
    )
    full = torch.where(strength > 0, red, blue)
    return (gray + (full - gray) * strength.abs()).round().to(torch.uint8)


def drawn(cloud: Tensor, ink: Tensor) -> Tensor:
    """Draw coordinates [3, N] in the unit sphere, z up, with colours uint8 [N, 3]: uint8 [3, 192, 192].

    Near points cover far ones.
    """
    x, y, z = cloud.double()
    right = math.cos(_TURN) * x - math.sin(_TURN) * y
    depth = math.sin(_TURN) * x + math.cos(_TURN) * y
    up = math.cos(_TILT) * z + math.sin(_TILT) * depth
    away = math.cos(_TILT) * depth - math.sin(_TILT) * z
    scale = (_SIDE / 2 - 2 * _RADIUS) / max(1.0, float(cloud.norm(dim=0).max()))
    column = (_SIDE / 2 + scale * right).round().long()
    row = (_SIDE / 2 - scale * up).round().long()
    image = torch.full((3, _SIDE, _SIDE), 255, dtype=torch.uint8)
    for n in away.argsort(descending=True).tolist():
        for dy in range(-_RADIUS, _RADIUS + 1):
            half = int((_RADIUS**2 - dy**2) ** 0.5)
            at, start = int(row[n]) + dy, int(column[n]) - half
            image[:, at, start : start + 2 * half + 1] = ink[n][:, None]
    return image
