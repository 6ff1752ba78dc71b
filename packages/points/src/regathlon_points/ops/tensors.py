"""The operations written with tensors: on every device, and with the same results as the compiled ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_PILE = 8
"""Values of a pile in ``smallest``."""


def farthest(points: Tensor, start: Tensor, count: int) -> Tensor:
    """Return what ``farthest_point_sample`` chooses: int64 [B, count], of float64 [B, C, N] and [B]."""
    batch, channels, total = points.shape
    axes = points.transpose(0, 1).contiguous()  # one subtraction for all of them, and sums of whole planes
    chosen = torch.empty(count, batch, dtype=torch.int64, device=points.device)
    chosen[0] = start
    gap = points.new_full((batch, total), torch.inf)
    place = points.new_empty(channels, batch, 1)
    apart = torch.empty_like(axes)
    fresh, *others = apart.unbind(0)
    for i in range(1, count):
        latest = chosen[i - 1, :, None]
        torch.gather(axes, 2, latest.expand(place.shape), out=place)
        torch.sub(axes, place, out=apart).square_()
        for term in others:
            fresh += term
        torch.minimum(gap, fresh, out=gap)
        gap.scatter_(1, latest, -1.0)  # below any distance, and stays: never chosen again
        torch.argmax(gap, dim=1, out=chosen[i])
    return chosen.T.contiguous()


def ball(points: Tensor, centers: Tensor, squared_radius: float, k: int) -> Tensor:
    """Return what ``ball_query`` finds: int64 [B, M, k], of float64 [B, C, N] and [B, C, M]."""
    wanted = torch.arange(1, k + 1, dtype=torch.int32, device=points.device)

    def first_inside(distances: Tensor) -> Tensor:
        # The j-th point inside is where the running count of points inside reaches j.
        inside = (distances <= squared_radius).cumsum(dim=2, dtype=torch.int32)
        index = torch.searchsorted(inside, wanted.expand(*inside.shape[:2], k).contiguous())
        index = torch.where(index < points.shape[2], index, index[:, :, :1])
        empty = (inside[:, :, -1] == 0).nonzero(as_tuple=True)
        index[empty] = distances[empty].argmin(dim=1)[:, None]
        return index

    return _by_distances(centers, points, first_inside)


def nearest(points: Tensor, centers: Tensor, k: int) -> Tensor:
    """Return the nearest points: int64 [B, M, k], of float64 [B, C, N] and [B, C, M]."""
    return _by_distances(centers, points, lambda distances: smallest(distances, k))


def _by_distances(centers: Tensor, points: Tensor, find: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what is found in the squared distances [B, M, N], on a CPU cloud by cloud: the table stays in the cache."""
    if points.device.type != "cpu" or not len(points):
        return find(squared_distances(centers, points))
    clouds = zip(centers[:, None], points[:, None], strict=True)
    return torch.cat([find(squared_distances(center, cloud)) for center, cloud in clouds])


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

    The values are dealt out to piles; the k + 1 smallest lie in the k + 1 piles whose minima are smallest. Where two of those
    are equal, which ``topk`` has in any order, the row is sorted.
    """
    total = values.shape[-1]
    if (k + 1) * _PILE >= total:
        return values.sort(dim=-1, stable=True).indices[..., :k]
    piles = -(-total // _PILE)
    dealt = F.pad(values, (0, piles * _PILE - total), value=torch.inf)
    minima = dealt.view(*values.shape[:-1], _PILE, piles).amin(dim=-2)
    near = minima.topk(k + 1, largest=False, sorted=False).indices
    members = (near[..., None, :] + piles * torch.arange(_PILE, device=values.device)[:, None]).flatten(-2)
    found, order = dealt.gather(-1, members).topk(k + 1, largest=False)
    chosen: Tensor = members.gather(-1, order[..., :k])
    tied = (~(found[..., 1:] > found[..., :-1])).any(dim=-1).nonzero(as_tuple=True)
    chosen[tied] = values[tied].sort(dim=-1, stable=True).indices[..., :k]
    return chosen
