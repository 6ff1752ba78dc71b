"""The operations written with tensors: on every device, and with the same results as the compiled ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_GROUP = 8


def farthest(points: Tensor, start: Tensor, count: int) -> Tensor:
    """Return what ``farthest_point_sample`` chooses: int64 [B, count], of float64 [B, C, N] and [B]."""
    batch, _, total = points.shape
    chosen = torch.empty(batch, count, dtype=torch.int64, device=points.device)
    chosen[:, 0] = start
    gap = points.new_full((batch, total), torch.inf)
    place = points.new_empty(batch, points.shape[1], 1)
    fresh, term = torch.empty_like(gap), torch.empty_like(gap)
    for i in range(1, count):
        latest = chosen[:, i - 1 : i]
        torch.gather(points, 2, latest[:, None].expand(place.shape), out=place)
        torch.sub(points[:, 0], place[:, 0], out=fresh).square_()
        for channel in range(1, points.shape[1]):
            fresh += torch.sub(points[:, channel], place[:, channel], out=term).square_()
        torch.minimum(gap, fresh, out=gap)
        gap.scatter_(1, latest, -1.0)  # below any distance, and stays: never chosen again
        chosen[:, i] = gap.argmax(dim=1)
    return chosen


def ball(points: Tensor, centers: Tensor, squared_radius: float, k: int) -> Tensor:
    """Return what ``ball_query`` finds: int64 [B, M, k], of float64 [B, C, N] and [B, C, M]."""
    total = points.shape[2]
    distances = squared_distances(centers, points)
    # The j-th point inside is where the running count of points inside reaches j.
    inside = (distances <= squared_radius).cumsum(dim=2, dtype=torch.int32)
    wanted = torch.arange(1, k + 1, dtype=torch.int32, device=points.device)
    index = torch.searchsorted(inside, wanted.expand(*inside.shape[:2], k).contiguous())
    first = index[:, :, :1]
    first = torch.where(first < total, first, distances.argmin(dim=2, keepdim=True))
    return torch.where(index < total, index, first)


def nearest(points: Tensor, centers: Tensor, k: int) -> Tensor:
    """Return the nearest points: int64 [B, M, k], of float64 [B, C, N] and [B, C, M]."""
    return smallest(squared_distances(centers, points), k)


def squared_distances(centers: Tensor, points: Tensor) -> Tensor:
    """Return squared distances of all centres [B, C, M] to all points [B, C, N]: [B, M, N]."""
    total: Tensor | None = None
    for center, point in zip(centers.unbind(1), points.unbind(1), strict=True):
        term = (point[:, None, :] - center[:, :, None]).square_()
        total = term if total is None else total.add_(term)
    assert total is not None
    return total


def smallest(values: Tensor, k: int) -> Tensor:
    """Return the indices of the k smallest of values [..., N], in order of (value, index): int64 [..., k].

    They lie in the k groups of neighbouring indices whose minima are smallest, so only these are sorted.
    """
    total = values.shape[-1]
    if k * _GROUP >= total:
        return values.sort(dim=-1, stable=True).indices[..., :k]
    groups = -(-total // _GROUP)
    padded = F.pad(values, (0, groups * _GROUP - total), value=torch.inf)
    minima = padded.view(*values.shape[:-1], groups, _GROUP).amin(dim=-1)
    near = minima.sort(dim=-1, stable=True).indices[..., :k].sort(dim=-1).values
    members = (near[..., None] * _GROUP + torch.arange(_GROUP, device=values.device)).flatten(-2)
    order = padded.gather(-1, members).sort(dim=-1, stable=True).indices[..., :k]
    chosen: Tensor = members.gather(-1, order)
    return chosen
