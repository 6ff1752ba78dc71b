"""Farthest point sampling by pyg-lib (https://github.com/pyg-team/pyg-lib), which has a kernel for GPUs."""

from __future__ import annotations

import functools
import importlib

import torch
from torch import Tensor


@functools.cache
def available() -> bool:
    """Return whether pyg-lib is installed and samples farthest points."""
    try:
        return hasattr(importlib.import_module("pyg_lib").ops, "fps")
    except (ImportError, AttributeError, OSError):
        return False


def farthest(points: Tensor, start: Tensor, count: int) -> Tensor | None:
    """See ``tensors.farthest``; None where its answer is not the one we promise.

    pyg-lib starts at a cloud's first point, so the wanted one changes places with it; and it takes points at
    one place again and again where there are fewer places than are asked for.
    """
    batch, channels, total = points.shape
    clouds = torch.arange(batch, device=points.device)
    order = torch.arange(total, device=points.device).repeat(batch, 1)
    order[clouds, start] = 0
    order[:, 0] = start
    flat = points.mT.gather(1, order[..., None].expand(-1, -1, channels)).reshape(-1, channels)
    ends = torch.arange(0, batch * total + 1, total, device=points.device)
    # It takes the ceiling of ratio × points; half a point less is safe from rounding.
    chosen = importlib.import_module("pyg_lib").ops.fps(flat, ends, (count - 0.5) / total, False)
    if len(chosen) != batch * count:
        return None
    chosen = order.gather(1, chosen.view(batch, count) - ends[:-1, None])
    ordered = chosen.sort(dim=1).values
    return None if bool((ordered[:, 1:] == ordered[:, :-1]).any()) else chosen
