"""Choosing points of a cloud that cover it."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.errors import UserError
from regathlon_points.ops import compiled, pyg, tensors
from regathlon_points.ops.clouds import channels_first, check_cloud


@torch.no_grad()
def farthest_point_sample(x: Tensor, n: int, *, start: int | Tensor | None = None) -> Tensor:
    """Choose points one by one, each the farthest from those chosen before it.

    No point is chosen twice, so of points at one place all the others come before the second of them; of
    equally far ones the lower index comes first. Source: Eldar, Lindenbaum, Porat and Zeevi, "The Farthest
    Point Strategy for Progressive Image Sampling", IEEE TIP 1997; in PointNet++ (Qi et al., NeurIPS 2017,
    section 3.2) it chooses the centres of regions.

    Args:
        x: [B, N, C], floating; distances are measured in all C channels, in float64.
        n: Points to choose, in [1, N].
        start: Index of the first point, one for all clouds or int64 [B]. By default the point that is
            farthest from the centroid, which does not depend on the order of the points.

    Returns:
        Indices in the order of choice, int64 [B, n].

    Raises:
        UserError: There are not that many points, or the first one is not among them.

    Example:
        >>> line = torch.tensor([[[0.0], [1.0], [2.0], [10.0]]])
        >>> farthest_point_sample(line, 3).tolist()
        [[3, 0, 2]]
        >>> farthest_point_sample(line, 3, start=1).tolist()
        [[1, 3, 0]]
    """
    check_cloud("farthest_point_sample", x)
    total = x.shape[1]
    if not 1 <= n <= total:
        raise UserError(f"farthest_point_sample: {n} points of a cloud of {total}; choose from 1 to {total}.")
    points = channels_first(x)
    first = _first(points, start)
    if compiled.usable(points):
        return compiled.farthest(points, first, n)
    if points.is_cuda and pyg.available():
        chosen = pyg.farthest(points, first, n)
        if chosen is not None:
            return chosen
    return tensors.farthest(points, first, n)


def _first(points: Tensor, start: int | Tensor | None) -> Tensor:
    batch, _, total = points.shape
    if start is None:
        return (points - points.mean(dim=2, keepdim=True)).square().sum(dim=1).argmax(dim=1)
    first = torch.as_tensor(start, device=points.device)
    if first.dtype == torch.bool or first.is_floating_point() or first.numel() not in (1, batch):
        raise UserError(
            f"farthest_point_sample: start is one index or int64 [B], one for each of {batch} clouds, not "
            f"{first.dtype} of shape {tuple(first.shape)}."
        )
    first = first.long().reshape(-1).expand(batch)
    if first.device.type == "cpu":  # elsewhere looking would wait for the device
        for index in first[(first < 0) | (first >= total)].tolist():
            raise UserError(f"farthest_point_sample: start={index} is no index of a cloud of {total} points.")
    return first.contiguous()
