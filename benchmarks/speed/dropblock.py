"""DropBlock forward and backward beside ``torchvision.ops.DropBlock2d``, in one process on one thread.

python benchmarks/speed/dropblock.py --assert-ratio 0.25 --json dropblock.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from timing import compare, report
from torch import nn
from torchvision.ops import DropBlock2d

from regathlon_core import DropBlock

SIZES = ((64, 64, 32, 32), (32, 256, 14, 14))


def training_pass(layer: nn.Module, x: torch.Tensor, grad: torch.Tensor) -> Callable[[], None]:
    """Return a forward and backward pass through a layer in training mode."""
    layer.train()

    def run() -> None:
        x.grad = None
        layer(x).backward(grad)

    return run


def main() -> int:
    """Run the comparison; return 1 where ours is slower than asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--p", type=float, default=0.1, help="share of units to drop (0.1)")
    parser.add_argument("--block-size", type=int, nargs="+", default=[7], help="odd, as torchvision asks (7)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--channels-last", action="store_true", help="inputs in that memory format")
    parser.add_argument("--assert-ratio", type=float, help="fail where ours/torchvision is above this")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()

    torch.set_num_threads(1)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    results = {}
    for size in SIZES:
        for block_size in options.block_size:
            x, grad = (torch.randn(size, device=options.device).to(memory_format=layout) for _ in range(2))
            x.requires_grad_()
            peer, ours = DropBlock2d(options.p, block_size), DropBlock(p=options.p, block_size=block_size)
            results[f"{list(size)}, p={options.p:g}, block {block_size}"] = compare(
                {
                    "torchvision": training_pass(peer, x, grad),
                    "ours": training_pass(ours.to(options.device), x, grad),
                    "dropout (for scale)": training_pass(nn.Dropout(options.p), x, grad),
                },
                options.rounds,
            )
    return report(results, json_path=options.json, subject="ours", assert_ratio=options.assert_ratio)


if __name__ == "__main__":
    sys.exit(main())
