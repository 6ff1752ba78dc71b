"""Pooled features of given boxes, in calls that say where their values come from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def pooled_boxes(
    levels: Sequence[Tensor],
    boxes: Tensor,
    *,
    height: int,
    size: tuple[int, int],
    samples: int = 0,
    canonical: tuple[float, float],
    aligned: bool = False,
) -> Tensor:
    """Return the pooled features of one box per image: RoIAlign in calls that relevance propagation has rules for.

    It equals torchvision's ``MultiScaleRoIAlign`` and mmdet's ``SingleRoIExtractor``, whose kernels say nothing of where their
    values come from.

    Args:
        levels: Of the pyramid from fine to coarse, [B, C, H, W] each.
        boxes: [B, 4] in pixels.
        height: Of the images in pixels.
        size: Bins down and across.
        samples: Samples per bin in each direction; 0 for as many as there are positions of the level.
        canonical: A side in pixels, and the level (0: a stride of 1) that boxes of so many pixels belong to.
        aligned: Whether positions of a level are the middles of its cells, half a cell from their corners.

    Returns:
        [B, C, *size].
    """
    steps = [round(math.log2(height / level.shape[-2])) for level in levels]
    sides = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    scale, level_of_scale = canonical
    wanted = torch.floor(level_of_scale + torch.log2(sides / scale) + 1e-6)
    chosen = (wanted.clamp(steps[0], steps[-1]) - steps[0]).long().tolist()
    pooled = [
        _align(levels[level][image : image + 1], boxes[image] / 2 ** steps[level], size, samples, aligned)
        for image, level in enumerate(chosen)
    ]
    return torch.cat(pooled)


def _align(feature: Tensor, box: Tensor, size: tuple[int, int], samples: int, aligned: bool) -> Tensor:
    """Average bilinear samples of a feature map [1, C, H, W] in the bins of a box: [1, C, *size]."""
    axes, counts = [], []
    for start, stop, bins, side in zip(box[:2], box[2:], size[::-1], feature.shape[:1:-1], strict=True):
        length = stop - start if aligned else (stop - start).clamp(min=1)
        each = samples if samples > 0 else max(math.ceil(float(length) / bins), 1)
        offsets = (torch.arange(bins * each, device=box.device) + 0.5) / (bins * each)
        places = (start + offsets * length - aligned / 2).clamp(0, side - 1)
        axes.append(2 * places / max(side - 1, 1) - 1)
        counts.append(each)
    grid = torch.stack(torch.meshgrid(*axes, indexing="xy"), dim=-1)[None]
    sampled = F.grid_sample(feature, grid.to(feature.dtype), align_corners=True, padding_mode="border")
    return F.avg_pool2d(sampled, counts[::-1])
