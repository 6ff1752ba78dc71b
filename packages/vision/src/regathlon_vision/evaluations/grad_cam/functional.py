"""Grad-CAM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.features import FeaturePoint, hook_point, select_points
from regathlon_core.passes import PassRole, run_as
from regathlon_core.task import Task


def grad_cam(
    model: nn.Module,
    point: FeaturePoint,
    inputs: Tensor,
    target: Tensor | None = None,
    *,
    forward: Callable[[nn.Module, Any], Tensor] | None = None,
) -> Tensor:
    """Return where a classifier looks for a class: its last maps, each weighed by its mean gradient.

    relu(sum_k a_k A^k), a_k the mean over positions of the gradient of the class's logit with respect to A^k (Selvaraju
    et al. 2017, arXiv 1610.02391, Eqs. 1 and 2), upsampled to the images. Nothing is left on the model.

    Args:
        model: The model; run in evaluation mode.
        point: Place of the maps A, [B, C, h, w].
        inputs: Images [B, C', H, W].
        target: A class per image, int64 [B]; None for the one that is predicted.
        forward: How to get logits [B, K]; ``model(inputs)`` by default.

    Returns:
        At least 0, [B, H, W], float32; 0 everywhere where no map speaks for the class.

    Raises:
        UserError: The place has no maps.
    """
    seen: list[Tensor] = []

    def separate(module: nn.Module, arguments: Any, features: Tensor) -> Tensor:
        seen[:] = [features.detach().requires_grad_()]
        return seen[0].clone()  # the model may change it in place

    handles = hook_point(model, point, separate)
    try:
        with run_as(model, PassRole.ATTRIBUTION), torch.enable_grad():
            logits = model(inputs) if forward is None else forward(model, inputs)
            if not seen or seen[0].ndim != 4:
                raise UserError(f"grad_cam needs maps [B, C, h, w]; {point.name!r} has none.")
            chosen = logits.argmax(dim=1) if target is None else target
            (gradient,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), seen[0])
    finally:
        for handle in handles:
            handle.remove()
    weights = gradient.float().mean(dim=(2, 3), keepdim=True)
    heat = (weights * seen[0].detach().float()).sum(dim=1, keepdim=True).relu()
    return F.interpolate(heat, size=inputs.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


def map_point(task: Task, model: nn.Module, place: str = "") -> FeaturePoint:
    """Return the feature point of a name, or the last of the model's default ones with maps.

    Raises:
        UserError: There is none.
    """
    points = [point for point in task.features(model) if point.layout == "channels_first"]
    chosen = select_points(points, [place] if place else [])
    if not chosen:
        raise UserError(f"{type(model).__name__} names no feature maps for Grad-CAM to weigh.")
    return chosen[-1]


def relative(heat: Tensor) -> Tensor:
    """Return heat [B, H, W] as shares of the largest of each image; 0 where there is none."""
    largest = heat.flatten(1).amax(dim=1)[:, None, None]
    return torch.where(largest > 0, heat / largest.clamp(min=torch.finfo(heat.dtype).tiny), 0.0)
