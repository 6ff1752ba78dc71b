"""A detector's step with GradAug beside its plain step, of torchvision and of MMDetection, step by step in turn, on one thread.

python benchmarks/speed/detection.py --depth 50 --side 192 --rounds 5 --assert-floor 1.10

The floor is the arithmetic of the passes (convolutions and matrix products, which torch's FlopCounterMode counts) over that of
the plain step: what GradAug would cost if the regions of the second stage, the pooling of their features and the interception
of the backbone were free. Every step makes the same draws. Images are enlarged scenes of digits, the same for both back ends;
MMDetection's is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import measure
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from regathlon_core import Batch, GradAug, NoRegularizer, Regularizer, stream
from regathlon_core.rng import global_stream
from regathlon_vision.detection import DetectionScenesTask, MaskRCNNSettings, MMDetMaskRCNNSettings

BACK_ENDS = {"torchvision": MaskRCNNSettings, "mmdet": MMDetMaskRCNNSettings}


def training_step(
    model: nn.Module, task: DetectionScenesTask, batch: Batch, regularizer: Regularizer[Any], draw: int
) -> Callable[[], None]:
    """Return an optimizer step that makes the same draws whenever it is called."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        with global_stream(draw, "sampling"):
            for loss in regularizer.losses(model, batch, task, stream(draw, "benchmark")):
                loss.backward()
                del loss
        optimizer.step()

    return run


def operations(step: Callable[[], None]) -> int:
    """Return the floating-point operations of a step's matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def main() -> int:
    """Run the comparison; return 1 where GradAug costs more over its floor than asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--back-ends", nargs="+", choices=tuple(BACK_ENDS), help="those that are installed")
    parser.add_argument("--depth", type=int, default=50, choices=(18, 34, 50, 101))
    parser.add_argument("--side", type=int, default=192, help="pixels of an image's side")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--n", type=int, default=3, help="sub-networks in a step")
    parser.add_argument("--alpha", type=float, default=0.8, help="smallest width")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--draw", type=int, default=0)
    parser.add_argument(
        "--assert-floor", type=float, help="fail where GradAug costs more than this times its floor"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()

    torch.set_num_threads(1)
    task = DetectionScenesTask()
    task.short = options.side
    batch = task.batch("train", torch.arange(options.batch))
    variants = {
        "plain": NoRegularizer(),
        "gradaug": GradAug(n=options.n, alpha=options.alpha),
        "gradaug(labels=soft)": GradAug(n=options.n, alpha=options.alpha, labels="soft"),
    }
    steps: dict[str, Callable[[], None]] = {}
    back_ends = options.back_ends or [
        name for name, settings in BACK_ENDS.items() if settings().not_installed() is None
    ]
    for back_end in back_ends:
        with global_stream(0, "init"):
            model = BACK_ENDS[back_end](depth=options.depth).build(task).train()
        for name, part in variants.items():
            steps[f"{back_end} {name}"] = training_step(model, task, batch, part, options.draw)
        steps[f"{back_end} gradaug"]()  # the trace, which is made once, is no part of a step
    counted = {name: operations(step) for name, step in steps.items()}
    times = measure(steps, options.rounds)
    print(
        f"Mask R-CNN, ResNet-{options.depth} with FPN, {options.batch} images of {options.side}x{options.side}"
    )
    table, worst = {}, 0.0
    for name in steps:
        back_end, _, variant = name.partition(" ")
        floor = counted[name] / counted[f"{back_end} plain"]
        ratio = times.ratio(name, f"{back_end} plain")
        beside = times.ratio(name, f"{back_ends[0]} {variant}")
        arithmetic = counted[name] / counted[f"{back_ends[0]} {variant}"]
        over = ratio.cpu / floor
        table[name] = {
            "cpu": ratio.cpu,
            "wall": ratio.wall,
            "milliseconds": ratio.milliseconds,
            "floor": floor,
            f"over_{back_ends[0]}": beside.cpu,
            f"arithmetic_over_{back_ends[0]}": arithmetic,
        }
        print(
            f"  {name:32} cpu {ratio.cpu:6.3f}  floor {floor:6.3f}  cpu/floor {over:6.3f}  {ratio.milliseconds:9.1f} ms"
            + (
                f"  over {back_ends[0]}: cpu {beside.cpu:6.3f}  arithmetic {arithmetic:6.3f}"
                if len(back_ends) > 1
                else ""
            )
        )
        worst = max(worst, over)
    if options.json is not None:
        record = {"torch": torch.__version__, "options": vars(options) | {"json": None}, "results": table}
        options.json.write_text(json.dumps(record, indent=2) + "\n")
    if options.assert_floor is not None and worst > options.assert_floor:
        print(f"a step costs more than {options.assert_floor:g} times its floor", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
