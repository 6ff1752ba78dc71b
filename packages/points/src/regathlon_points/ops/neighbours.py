"""Which points are near which."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from regathlon_core.errors import UserError
from regathlon_points.ops import compiled, tensors
from regathlon_points.ops.clouds import channels_first, check_cloud, check_same_space

_DIRECT_CHANNELS = 8  # up to here differences are as quick as a matrix product, and do not cancel


@torch.no_grad()
def knn(x: Tensor, k: int, centers: Tensor | None = None) -> Tensor:
    """Return the k nearest points of each centre, nearest first; of equally near ones the lower index first.

    Distances are Euclidean. Up to 8 channels they are exact to rounding in float64. With more (features) they
    come from a matrix product in the given precision, |x|² - 2cx + |c|², whose errors grow with the distance from the
    origin; a point is then its own first neighbour in any case.

    Args:
        x: Where to look, [B, N, C], floating.
        k: Neighbours, in [1, N]; a point is its own first one, as in DGCNN (Wang et al. 2019), unless a twin
            at the same place has a lower index.
        centers: [B, M, C]; None asks for the points' own neighbours.

    Returns:
        Indices into ``x``, int64 [B, M, k].

    Raises:
        UserError: There are fewer than k points, or shapes do not fit.

    Example:
        >>> line = torch.tensor([[[0.0], [1.0], [3.0], [7.0]]])
        >>> knn(line, 2).tolist()
        [[[0, 1], [1, 0], [2, 1], [3, 2]]]
        >>> knn(line, 2, centers=torch.tensor([[[2.0], [6.0]]])).tolist()
        [[[1, 2], [3, 2]]]
    """
    check_cloud("knn", x)
    total, channels = x.shape[1:]
    if not 1 <= k <= total:
        raise UserError(f"knn: {k} neighbours in a cloud of {total} points; ask for 1 to {total}.")
    if centers is not None:
        check_same_space("knn", x, centers)
    if channels > _DIRECT_CHANNELS:
        dtype = torch.promote_types(x.dtype, torch.float32)
        return _knn_of_features(x.to(dtype), k, None if centers is None else centers.to(dtype))
    points = channels_first(x)
    asked = points if centers is None else channels_first(centers)
    way = compiled.nearest if compiled.usable(points) else tensors.nearest
    return way(points, asked, k)


@torch.no_grad()
def ball_query(x: Tensor, centers: Tensor, radius: float, k: int) -> Tensor:
    """Return up to k points within a radius of each centre, in the order of their indices.

    Where there are fewer than k, the first one fills the other places; where there is none, the nearest point
    does. This is the grouping of PointNet++ (Qi et al., NeurIPS 2017, section 3.2; reference code
    https://github.com/charlesq34/pointnet2), which leaves a ball without points undefined.

    Args:
        x: Where to look, [B, N, C], floating.
        centers: Centres of the balls, [B, M, C].
        radius: Of a ball, above 0; a point at exactly this distance is inside.
        k: Places in the answer, at least 1; may exceed N.

    Returns:
        Indices into ``x``, int64 [B, M, k].

    Raises:
        UserError: The radius or k is not positive, or shapes do not fit.

    Example:
        >>> line = torch.tensor([[[0.0], [1.0], [3.0], [7.0]]])
        >>> ball_query(line, torch.tensor([[[2.0], [5.5]]]), radius=1.0, k=3).tolist()
        [[[1, 2, 1], [3, 3, 3]]]
    """
    check_cloud("ball_query", x)
    check_same_space("ball_query", x, centers)
    if not radius > 0 or math.isinf(radius) or k < 1:
        raise UserError(f"ball_query: radius and k must be positive, not radius={radius} and k={k}.")
    points, asked = channels_first(x), channels_first(centers)
    way = compiled.ball if compiled.usable(points) else tensors.ball
    return way(points, asked, float(radius) ** 2, k)


def three_interpolate(x: Tensor, centers: Tensor, features: Tensor, k: int = 3) -> Tensor:
    """Carry features of few points over to many: the mean of the three nearest, weighted by inverse distance.

    f(x) = Σ_i w_i f_i / Σ_i w_i with w_i = 1 / |x - c_i|² over the k nearest centres i. A point at the place of
    a centre gets that centre's features alone. Gradients flow to the features.

    Args:
        x: Where features are asked for, [B, N, C], floating.
        centers: Where they are known, [B, M, C].
        features: What is known there, [B, M, F], floating.
        k: Neighbours to take; at most M are taken.

    Returns:
        [B, N, F], typed like the features.

    Raises:
        UserError: Shapes do not fit.

    Example:
        >>> centers, features = torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[0.0], [10.0]]])
        >>> three_interpolate(torch.tensor([[[0.0], [0.5]]]), centers, features).tolist()
        [[[0.0], [5.0]]]

    Source: Qi et al., PointNet++, NeurIPS 2017, equation 2 with p = 2.
    """
    check_cloud("three_interpolate", centers)
    check_same_space("three_interpolate", centers, x)
    if features.shape[:2] != centers.shape[:2]:
        raise UserError(
            f"three_interpolate: features {tuple(features.shape)} are not one per centre "
            f"{tuple(centers.shape)}; give [B, M, F] for centres [B, M, C]."
        )
    with torch.no_grad():
        index = knn(centers, min(k, centers.shape[1]), centers=x)
        squared = (take(centers.double(), index) - x.double()[:, :, None]).square().sum(-1)
        weights = torch.where(squared > 0, 1 / squared, 0.0)
        here = (squared == 0).double()
        weights = torch.where(here.any(-1, keepdim=True), here, weights)
        # Distances so small that their inverse overflows are as good as none.
        weights = weights.clamp(max=torch.finfo(torch.float64).max / weights.shape[-1])
        weights = (weights / weights.sum(-1, keepdim=True)).to(features.dtype)
    return (take(features, index) * weights[..., None]).sum(2)


def take(features: Tensor, index: Tensor) -> Tensor:
    """Return the features of chosen points; gradients of a point that was chosen more than once add up.

    Args:
        features: [B, N, C], any dtype.
        index: int64 [B, *S], each in [0, N).

    Returns:
        [B, *S, C].

    Example:
        >>> features = torch.arange(6.0).view(1, 3, 2)
        >>> take(features, torch.tensor([[2, 0]])).tolist()
        [[[4.0, 5.0], [0.0, 1.0]]]
    """
    flat = index.flatten(1)[..., None].expand(-1, -1, features.shape[2])
    return features.gather(1, flat).view(*index.shape, features.shape[2])


def _knn_of_features(x: Tensor, k: int, centers: Tensor | None) -> Tensor:
    """Order points by |x|² - 2cx, one cloud after the other, so that the table stays in the cache."""
    way = compiled.smallest if compiled.usable(x) else tensors.smallest
    rows = []
    for b, cloud in enumerate(x):
        asked = cloud if centers is None else centers[b]
        table = torch.addmm(cloud.square().sum(dim=1), asked, cloud.mT, alpha=-2)
        if centers is None:
            table.fill_diagonal_(-torch.inf)
        rows.append(way(table, k))
    return torch.stack(rows)
