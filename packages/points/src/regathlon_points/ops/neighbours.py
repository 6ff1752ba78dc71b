"""Which points are near which."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from regathlon_core.errors import UserError

_DIRECT_CHANNELS = 8  # up to here differences are as quick as a matrix product, and do not cancel
_GROUP = 8


@torch.no_grad()
def knn(points: Tensor, k: int, queries: Tensor | None = None) -> Tensor:
    """Return the k nearest points of each query, nearest first; of equally near ones the lower index first.

    Distances are Euclidean, in float32. With more than 8 channels they come from a matrix product
    (|q|² - 2qp + |p|²), whose rounding errors grow with the distance from the origin.

    Args:
        points: Where to look, [B, C, N], floating.
        k: Neighbours, in [1, N].
        queries: [B, C, M]; None asks for the points' own neighbours, and each point's nearest is then itself
            or a twin at the same place.

    Returns:
        Indices into ``points``, int64 [B, M, k].

    Raises:
        UserError: There are fewer than k points.

    Example:
        >>> line = torch.tensor([[[0.0, 1.0, 3.0, 7.0]]])
        >>> knn(line, 2, queries=torch.tensor([[[2.0, 6.0]]])).tolist()
        [[[1, 2], [3, 2]]]
    """
    total = points.shape[2]
    if not 1 <= k <= total:
        raise UserError(f"knn: {k} neighbours in a cloud of {total} points; ask for 1 to {total}.")
    return _smallest(squared_distances(points if queries is None else queries, points), k)


@torch.no_grad()
def ball_query(points: Tensor, queries: Tensor, radius: float, k: int) -> Tensor:
    """Return up to k points within a radius of each query, in the order of their indices.

    Where there are fewer than k, the first one fills the other places; where there is none, the nearest point
    does. This is the grouping of PointNet++ (Qi et al., NeurIPS 2017, section 3.2; reference code
    https://github.com/charlesq34/pointnet2), which leaves a ball without points undefined.

    Args:
        points: Where to look, [B, C, N], floating.
        queries: Centres of the balls, [B, C, M].
        radius: Of a ball, above 0; a point at exactly this distance is inside.
        k: Places in the answer, at least 1; may exceed N.

    Returns:
        Indices into ``points``, int64 [B, M, k].

    Raises:
        UserError: The radius or k is not positive.

    Example:
        >>> line = torch.tensor([[[0.0, 1.0, 3.0, 7.0]]])
        >>> ball_query(line, torch.tensor([[[2.0, 5.5]]]), radius=1.0, k=3).tolist()
        [[[1, 2, 1], [3, 3, 3]]]
    """
    if not radius > 0 or k < 1:
        raise UserError(f"ball_query: radius and k must be positive, not radius={radius} and k={k}.")
    total = points.shape[2]
    distances = squared_distances(queries, points)
    # The j-th point inside is where the running count of points inside reaches j.
    inside = (distances <= radius**2).cumsum(dim=2, dtype=torch.int32)
    wanted = torch.arange(1, k + 1, dtype=torch.int32, device=points.device)
    index = torch.searchsorted(inside, wanted.expand(*inside.shape[:2], k).contiguous())
    first = index[:, :, :1]
    first = torch.where(first < total, first, distances.min(dim=2, keepdim=True).indices)
    return torch.where(index < total, index, first)


@torch.no_grad()
def squared_distances(queries: Tensor, points: Tensor) -> Tensor:
    """Return squared distances of all queries [B, C, M] to all points [B, C, N]: float32 [B, M, N]."""
    queries, points = queries.float(), points.float()
    if queries.shape[1] > _DIRECT_CHANNELS:
        norms = queries.square().sum(dim=1)[:, :, None] + points.square().sum(dim=1)[:, None, :]
        return torch.baddbmm(norms, queries.mT, points, alpha=-2).clamp_(min=0)
    total = queries.new_zeros(queries.shape[0], queries.shape[2], points.shape[2])
    for query, point in zip(queries.unbind(1), points.unbind(1), strict=True):
        total += (query[:, :, None] - point[:, None, :]).square_()
    return total


def _smallest(values: Tensor, k: int) -> Tensor:
    """Return the indices of the k smallest of float32 values >= 0 [B, M, N], in order of (value, index).

    The k smallest lie in the k groups of neighbouring indices whose minima are smallest, so only these are
    searched: on one CPU thread at N=1024 and k=20 this takes 0.8 of ``topk``'s time, which also leaves the
    order of ties open.
    """
    total = values.shape[2]
    if k * _GROUP >= total:
        return _smallest_by_key(values, torch.arange(total, device=values.device), k)
    groups = -(-total // _GROUP)
    padded = F.pad(values, (0, groups * _GROUP - total), value=torch.inf)
    minima = padded.view(*padded.shape[:2], groups, _GROUP).amin(dim=3)
    near = _smallest_by_key(minima, torch.arange(groups, device=values.device), k)
    members = (near[..., None] * _GROUP + torch.arange(_GROUP, device=values.device)).flatten(2)
    return _smallest_by_key(padded.gather(2, members), members, k)


def _smallest_by_key(values: Tensor, index: Tensor, k: int) -> Tensor:
    # The bits of non-negative floats are ordered as the floats are; the index below them decides between
    # equals.
    key = (values.abs().view(torch.int32).long() << 32) | index
    return key.topk(k, dim=2, largest=False).values & 0xFFFFFFFF
