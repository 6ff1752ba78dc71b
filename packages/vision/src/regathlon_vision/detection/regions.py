"""What the second stage of a detector says of given boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def class_logits(
    heads: nn.Module,
    features: Mapping[str, Tensor],
    boxes: Sequence[Tensor],
    sizes: Sequence[tuple[int, int]],
) -> Tensor:
    """Return the class logits of boxes, as a detector's second stage computes them.

    Args:
        heads: torchvision's ``RoIHeads``.
        features: The levels of the pyramid by name.
        boxes: For every image [R, 4], in pixels.
        sizes: Height and width of every image.

    Returns:
        [sum of R, K + 1].
    """
    stage: Any = heads
    pooled = stage.box_roi_pool(features, list(boxes), list(sizes))
    logits: Tensor = stage.box_predictor(stage.box_head(pooled))[0]
    return logits


def box_features(
    heads: nn.Module, features: Mapping[str, Tensor], boxes: Tensor, padded: tuple[int, int]
) -> Tensor:
    """Return the pooled features of one box per image: RoIAlign in calls that relevance propagation has rules for.

    It equals torchvision's ``MultiScaleRoIAlign``, whose kernel says nothing of where its values come from.

    Args:
        heads: torchvision's ``RoIHeads``.
        features: The levels of the pyramid by name, [B, C, H, W] each.
        boxes: [B, 4] in pixels.
        padded: Height and width of the tensor of all images.

    Returns:
        [B, C, *size of the pool].
    """
    pool: Any = heads.box_roi_pool
    levels = [features[name] for name in pool.featmap_names if name in features]
    steps = [round(math.log2(padded[0] / level.shape[-2])) for level in levels]
    sides = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    wanted = torch.floor(pool.canonical_level + torch.log2(sides / pool.canonical_scale) + 1e-6)
    chosen = (wanted.clamp(steps[0], steps[-1]) - steps[0]).long().tolist()
    pooled = [
        _align(levels[level][image : image + 1], boxes[image] / 2 ** steps[level], pool)
        for image, level in enumerate(chosen)
    ]
    return torch.cat(pooled)


def _align(feature: Tensor, box: Tensor, pool: Any) -> Tensor:
    """Average bilinear samples of a feature map [1, C, H, W] in the bins of a box: [1, C, *size of the pool]."""
    samples = max(pool.sampling_ratio, 1)
    axes = []
    for start, stop, bins, side in zip(
        box[:2], box[2:], pool.output_size[::-1], feature.shape[:1:-1], strict=True
    ):
        count = bins * samples
        offsets = (torch.arange(count, device=box.device) + 0.5) / count
        places = start + offsets * (stop - start).clamp(min=1)
        axes.append(2 * places.clamp(0, side - 1) / max(side - 1, 1) - 1)
    grid = torch.stack(torch.meshgrid(*axes, indexing="xy"), dim=-1)[None]
    sampled = F.grid_sample(feature, grid.to(feature.dtype), align_corners=True, padding_mode="border")
    return F.avg_pool2d(sampled, samples)
