"""Choosing points of a cloud, and taking what was chosen."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.errors import UserError


def gather(features: Tensor, index: Tensor) -> Tensor:
    """Return the features of chosen points; gradients of a point that was chosen more than once add up.

    Args:
        features: [B, C, N], any dtype.
        index: int64 [B, *S], each in [0, N).

    Returns:
        [B, C, *S].

    Example:
        >>> features = torch.arange(6.0).view(1, 2, 3)
        >>> gather(features, torch.tensor([[2, 0]])).tolist()
        [[[2.0, 0.0], [5.0, 3.0]]]
    """
    flat = index.flatten(1)[:, None].expand(-1, features.shape[1], -1)
    return features.gather(2, flat).view(*features.shape[:2], *index.shape[1:])


@torch.no_grad()
def farthest_point_sampling(points: Tensor, count: int, *, start: int | Tensor | None = None) -> Tensor:
    """Choose points one by one, each the farthest from those chosen before it.

    No point is chosen twice, so of points at one place all the others come before the second of them. Source:
    Eldar, Lindenbaum, Porat and Zeevi, "The Farthest Point Strategy for Progressive Image Sampling", IEEE TIP
    1997; in PointNet++ (Qi et al., NeurIPS 2017, section 3.2) it chooses the centres of regions.

    Args:
        points: [B, C, N], floating; distances are measured in all C channels, in float32 at least.
        count: Points to choose, M in [1, N].
        start: Index of the first point, one for all clouds or int64 [B]. By default the point that is
            farthest from the centroid, which does not depend on the order of the points.

    Returns:
        Indices in the order of choice, int64 [B, M].

    Raises:
        UserError: There are not that many points.

    Example:
        >>> line = torch.tensor([[[0.0, 1.0, 2.0, 10.0]]])
        >>> farthest_point_sampling(line, 3).tolist()
        [[3, 0, 2]]
    """
    batch, _, total = points.shape
    if not 1 <= count <= total:
        raise UserError(
            f"farthest_point_sampling: {count} points of a cloud of {total}; choose from 1 to {total}."
        )
    points = points.to(torch.promote_types(points.dtype, torch.float32)).contiguous()
    chosen = torch.empty(batch, count, dtype=torch.int64, device=points.device)
    chosen[:, :1] = _first(points, start)
    nearest = torch.full((batch, total), torch.inf, dtype=points.dtype, device=points.device)
    offset = torch.empty_like(points)
    for i in range(1, count):
        latest = chosen[:, i - 1 : i]
        torch.sub(points, gather(points, latest), out=offset)
        torch.minimum(nearest, offset.square_().sum(dim=1), out=nearest)
        nearest.scatter_(1, latest, -1.0)  # below any distance, and stays: never chosen again
        chosen[:, i] = nearest.max(dim=1).indices
    return chosen


def _first(points: Tensor, start: int | Tensor | None) -> Tensor:
    batch, _, total = points.shape
    if start is None:
        from_centroid = (points - points.mean(dim=2, keepdim=True)).square().sum(dim=1)
        return from_centroid.max(dim=1, keepdim=True).indices
    if isinstance(start, Tensor):
        return start.view(batch, 1)
    if not 0 <= start < total:
        raise UserError(f"farthest_point_sampling: start={start} is no index of a cloud of {total} points.")
    return torch.full((batch, 1), start, device=points.device)
