"""Operations on clouds of points in plain torch, on any device.

Clouds and features are channels first, [B, C, N], as convolutions want them; what is chosen is named by
indices int64 [B, ...], and ``gather`` takes it. Every operation is a function of its arguments alone: where
distances are equal, the point with the lower index comes first.
"""

from regathlon_points.ops.neighbours import ball_query, knn
from regathlon_points.ops.sampling import farthest_point_sampling, gather

__all__ = ["ball_query", "farthest_point_sampling", "gather", "knn"]
