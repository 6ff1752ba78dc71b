"""A training step of ResNet-50 with DropGraph at the paper's places, beside DropBlock's, Disout's and the plain one.

All of them run interleaved in one process on one thread. Beside the times, the multiply-adds that DropGraph adds are
printed, which know no noise, and its memory on a cluster of nodes as large as those of ogbn-products.

    python benchmarks/speed/dropgraph.py --assert-ratio 1.08 --json dropgraph.json
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import compare, report
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet50

from regathlon_core import Disout, DropBlock, DropGraph, FeaturePoint, Regularizer
from regathlon_core.features import on_channels_first
from regathlon_vision import feature_points


def training_step(
    regularizer: Regularizer[Any] | None, images: Tensor, labels: Tensor, channels_last: bool
) -> Callable[[], None]:
    """Return a step of SGD on a network of its own, with the regularizer at its full rate."""
    generator = torch.Generator(images.device).manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = resnet50().to(images.device)
        if channels_last:
            model = model.to(memory_format=torch.channels_last)
        if regularizer is not None:
            regularizer.attach(model.train(), points=feature_points(model))  # type: ignore[call-arg]
            regularizer.to(images.device)
            regularizer.after_step(1.0)
            regularizer._generator = generator  # type: ignore[assignment]
    own = list(regularizer.parameters()) if regularizer is not None else []
    optimizer = torch.optim.SGD([*model.parameters(), *own], lr=1e-5, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def multiply_adds(step: Callable[[], None]) -> int:
    """Return the multiply-adds of a step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() // 2


def cluster_memory(nodes: int, channels: int) -> tuple[int, int]:
    """Return the vertices that DropGraph takes of a cluster of nodes, and the MiB that a pass both ways adds."""
    layer = DropGraph(p=0.1, alpha=0.15, block_size=1)
    layer.prepare([FeaturePoint("", channels=channels)])
    x = torch.randn(nodes, channels, requires_grad=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    on_channels_first(x, "nodes", lambda features, present: layer(features)).sum().backward()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return min(round(0.15 * nodes), layer.settings.max_vertices), (after - before) // 1024


def main() -> int:
    """Run the comparison; return 1 where DropGraph is slower than asked, or slower than Disout."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=224, help="side of the images (224)")
    parser.add_argument("--batch", type=int, default=16, help="images in a step (16)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=5200, help="of the cluster (5200)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--assert-ratio", type=float, help="fail where DropGraph/DropBlock is above this")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    vertices, mebibytes = cluster_memory(options.nodes, 256)
    print(
        f"cluster of {options.nodes} nodes, 256 channels: {vertices} vertices, peak memory grows by {mebibytes} MiB"
    )
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    images = torch.randn(options.batch, 3, options.size, options.size, device=options.device).to(
        memory_format=layout
    )
    labels = torch.randint(1000, (options.batch,), device=options.device)
    places: dict[str, Any] = {"where": ("dropgraph",), "group_rates": (0.25, 1.0)}
    steps = {
        name: training_step(regularizer, images, labels, options.channels_last)
        for name, regularizer in {
            "dropblock": DropBlock(p=0.1, block_size=7, **places),
            "dropgraph": DropGraph(p=0.1, block_size=7, **places),
            "disout": Disout(p=0.07, alpha=1.0, block_size=7, **places),
            "plain": None,
        }.items()
    }
    counted = {name: multiply_adds(steps[name]) / options.batch for name in ("plain", "dropgraph")}
    more = counted["dropgraph"] - counted["plain"]
    print(
        f"multiply-adds of a step for an image: plain {counted['plain'] / 1e9:.2f} G, dropgraph {more / 1e9:+.3f} G"
    )
    setting = (
        f"ResNet-50, {options.size} pixels, {options.batch} images, both branches of the last two groups"
    )
    results = {setting: compare(steps, options.rounds, warm_up=1)}
    failed = report(results, json_path=options.json, subject="dropgraph", assert_ratio=options.assert_ratio)
    times = results[setting]
    if options.assert_ratio is not None and times["dropgraph"].cpu >= times["disout"].cpu:
        print("dropgraph costs more than disout", file=sys.stderr)
        failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
