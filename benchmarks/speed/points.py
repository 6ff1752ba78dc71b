"""Cost of the operations on points, and of an EdgeConv, beside the straightforward ways to write them.

The straightforward ways are what the well-known public networks do, written again here: a distance matrix and its ``topk``
(DGCNN), a running minimum with boolean masks (farthest points) and a full sort of an index table (balls) (PointNet++), a
1 x 1 convolution of every edge's two ends (EdgeConv).

    python benchmarks/speed/points.py
    python benchmarks/speed/points.py --way tensors --assert-ratio 1.0
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from timing import Ratio, compare, report
from torch import Tensor, nn

from regathlon_points.models.dgcnn import EdgeConv
from regathlon_points.ops import ball_query, compiled, farthest_point_sample, knn


def plain_farthest(x: Tensor, n: int) -> Tensor:
    """Return farthest points, starting from the first."""
    batch, total, _ = x.shape
    chosen = torch.zeros(batch, n, dtype=torch.long)
    gap = torch.ones(batch, total) * 1e10
    latest = torch.zeros(batch, dtype=torch.long)
    clouds = torch.arange(batch)
    for i in range(n):
        chosen[:, i] = latest
        place = x[clouds, latest, :].view(batch, 1, x.shape[2])
        distance = ((x - place) ** 2).sum(-1)
        closer = distance < gap
        gap[closer] = distance[closer]
        latest = gap.max(-1)[1]
    return chosen


def plain_ball(x: Tensor, centers: Tensor, radius: float, k: int) -> Tensor:
    """Return the first k points of every ball, by sorting all indices."""
    batch, total, _ = x.shape
    index = torch.arange(total).view(1, 1, total).repeat(batch, centers.shape[1], 1)
    distance = -2 * centers @ x.mT + (centers**2).sum(-1)[:, :, None] + (x**2).sum(-1)[:, None]
    index[distance > radius**2] = total
    index = index.sort(dim=-1)[0][:, :, :k]
    first = index[:, :, :1].repeat(1, 1, k)
    outside = index == total
    index[outside] = first[outside]
    return index


def plain_knn(x: Tensor, k: int) -> Tensor:
    """Return nearest neighbours by a matrix product and ``topk``."""
    inner = -2 * x @ x.mT
    norms = (x**2).sum(-1, keepdim=True)
    return (-norms - inner - norms.mT).topk(k, dim=-1)[1]


class PlainEdgeConv(nn.Module):
    """A convolution of [x_j - x_i, x_i] for every edge, its norm, and the maximum."""

    def __init__(self, channels: int, out: int, k: int) -> None:
        super().__init__()
        self.k = k
        self.layer = nn.Sequential(
            nn.Conv2d(2 * channels, out, 1, bias=False), nn.BatchNorm2d(out), nn.LeakyReLU(0.2)
        )

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        batch, channels, total = x.shape
        rows = x.mT.contiguous()
        flat = (index + torch.arange(batch).view(-1, 1, 1) * total).view(-1)
        near = rows.view(batch * total, channels)[flat].view(batch, total, self.k, channels)
        own = rows.view(batch, total, 1, channels).repeat(1, 1, self.k, 1)
        edges = torch.cat((near - own, own), dim=3).permute(0, 3, 1, 2).contiguous()
        return self.layer(edges).max(dim=-1)[0]


def edge_convolutions(k: int = 20) -> dict[str, Callable[[], object]]:
    """Return both EdgeConvs, forwards and backwards, with the neighbours given."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 64, 1024, generator=generator, requires_grad=True)
    index = knn(x.mT, k)
    ours, plain = EdgeConv(64, 64, k=k), PlainEdgeConv(64, 64, k)

    def run(layer: nn.Module) -> None:
        layer(x, index).square().mean().backward()

    return {"plain": lambda: run(plain), "ours": lambda: run(ours)}


def main() -> int:
    """Measure, print and check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--way", choices=("compiled", "tensors"), default="compiled")
    parser.add_argument("--json", type=Path, help="write the measurement there")
    parser.add_argument("--assert-ratio", type=float, help="fail where ours / plain is above this")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    if args.way == "tensors":
        compiled.library = lambda: None
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(32, 1024, 3, generator=generator)
    features = torch.randn(32, 1024, 64, generator=generator)
    settings: dict[str, dict[str, Callable[[], object]]] = {
        "farthest points, 512 of 32 x 1024": {
            "plain": lambda: plain_farthest(x, 512),
            "ours": lambda: farthest_point_sample(x, 512, start=0),
        },
        "balls, 512 of 32 x 1024, k = 32": {
            "plain": lambda: plain_ball(x, x[:, :512], 0.2, 32),
            "ours": lambda: ball_query(x, x[:, :512], 0.2, 32),
        },
        "neighbours, 32 x 1024, k = 20, 3 channels": {
            "plain": lambda: plain_knn(x, 20),
            "ours": lambda: knn(x, 20),
        },
        "neighbours, 32 x 1024, k = 20, 64 channels": {
            "plain": lambda: plain_knn(features, 20),
            "ours": lambda: knn(features, 20),
        },
        "EdgeConv 64 to 64, 8 x 1024, k = 20, forwards and backwards": edge_convolutions(),
    }
    results: dict[str, dict[str, Ratio]] = {
        name: compare(variants, args.rounds) for name, variants in settings.items()
    }
    return report(results, json_path=args.json, subject="ours", assert_ratio=args.assert_ratio)


if __name__ == "__main__":
    raise SystemExit(main())
