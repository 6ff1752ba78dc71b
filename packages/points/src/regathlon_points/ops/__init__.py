"""Operations on clouds of points, on any device.

Clouds are [B, N, C], what is chosen is named by indices int64 [B, ...], and ``take`` takes it. Every operation is a
function of its arguments alone: where distances are equal, the point with the lower index comes first. On a CPU
the loops are compiled on first use where there is a C++ compiler, with the same results (``REGATHLON_COMPILE=0``
switches that off); on a GPU pyg-lib samples farthest points where it is installed.
"""

from regathlon_points.ops.neighbours import ball_query, knn, take, three_interpolate
from regathlon_points.ops.sampling import farthest_point_sample

__all__ = ["ball_query", "farthest_point_sample", "knn", "take", "three_interpolate"]
