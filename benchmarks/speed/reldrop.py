"""Cost of a training step with RelDrop beside a plain one, on torchvision's ResNet-18.

    python benchmarks/speed/reldrop.py --size 32 --batch 64
    python benchmarks/speed/reldrop.py --size 224 --batch 8 --assert-ratio 1.8

Only samples that are to be occluded are explained, so the default, half of them, costs half of ``p=1``. The paper's code explains
all of them: 2.3 to 2.4 times a plain step.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from timing import compare, report
from torch import nn
from torchvision.models import resnet18

from regathlon_core import RelDrop
from regathlon_core.regularizer import Regularizer
from regathlon_core.task import Batch
from regathlon_core.testing import ToyImages

_VARIANTS = {
    "reldrop": RelDrop(),
    "reldrop(composite=epsilon_norm)": RelDrop(composite="epsilon_norm"),
    "reldrop(every=4)": RelDrop(every=4),
    "reldrop(p=1)": RelDrop(p=1.0),
    "reldrop(p=1, composite=epsilon_norm)": RelDrop(p=1.0, composite="epsilon_norm"),
    "reldrop(p=1, every=4)": RelDrop(p=1.0, every=4),
}


def main() -> int:
    """Measure, print and check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=32, help="side of the images")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--json", type=Path, help="write the measurement there")
    parser.add_argument("--subject", choices=list(_VARIANTS), default="reldrop")
    parser.add_argument("--assert-ratio", type=float, help="fail where the subject / plain is above this")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(0)
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    images = torch.randn(args.batch, 3, args.size, args.size, generator=generator).contiguous(
        memory_format=layout
    )
    batch = Batch(images, torch.randint(100, (args.batch,), generator=generator))
    model = resnet18(num_classes=100).train().to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    task = ToyImages()

    def step(regularizer: Regularizer | None) -> None:
        optimizer.zero_grad()
        seen = batch if regularizer is None else regularizer.transform(model, batch, task, generator)
        nn.functional.cross_entropy(model(seen.inputs), seen.targets).backward()
        optimizer.step()
        if regularizer is not None:
            regularizer.after_step(0.5)

    variants: dict[str, Callable[[], object]] = {"plain": lambda: step(None)}
    for name, regularizer in _VARIANTS.items():
        variants[name] = lambda regularizer=regularizer: step(regularizer)
    calls = 4  # so that each round holds one attribution of every=4
    results = {f"{args.size} px, batch {args.batch}": compare(variants, args.rounds, calls=calls, warm_up=4)}
    return report(results, json_path=args.json, subject=args.subject, assert_ratio=args.assert_ratio)


if __name__ == "__main__":
    raise SystemExit(main())
