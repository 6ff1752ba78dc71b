"""Cost of relevance propagation beside zennit's and beside a plain training step, on torchvision's ResNet-18.

All variants run interleaved in one process, each on one thread; the printed ratios are medians over rounds of the ratio
within a round, so that a busy machine shifts all of them alike. Convolutions are counted, which knows
no noise.

    python benchmarks/speed/lrp.py --size 32 --batch 64
    python benchmarks/speed/lrp.py --size 224 --batch 8 --peer FOLDER --assert-ratio 0.45 --json out.json

FOLDER is where zennit lies (``pip install --target FOLDER --no-deps zennit==0.5.1``); it is never a dependency.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import resnet18

from regathlon_core.attribution import lrp

Variant = Callable[[], object]


def model_for(stem: str, classes: int = 100) -> nn.Module:
    """Return a ResNet-18, with its own stem or with the 3×3 stem that is used on small images."""
    model = resnet18(num_classes=classes)
    if stem == "cifar":
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    return model.train()


def variants(model: nn.Module, images: Tensor, labels: Tensor, peer: str | None) -> dict[str, Variant]:
    """Return what is timed, by name."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    table: dict[str, Variant] = {
        "step": step,
        "ours epsilon_plus_flat": lambda: lrp(model, images, labels),
        "ours epsilon_norm": lambda: lrp(model, images, labels, "epsilon_norm"),
        "ours official_2d": lambda: lrp(model, images, labels, "official_2d"),
    }
    if peer is not None:
        table |= peer_variants(model, images, labels, peer)
    return table


def peer_variants(model: nn.Module, images: Tensor, labels: Tensor, peer: str) -> dict[str, Variant]:
    """Return zennit's composites that correspond to ours."""
    sys.path.insert(0, peer)
    from zennit import rules, types
    from zennit.attribution import Gradient
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import EpsilonPlusFlat, SpecialFirstLayerMapComposite
    from zennit.torchvision import ResNetCanonizer

    seed = torch.eye(model.fc.out_features)[labels].to(images)

    def attribute(composite: object) -> None:
        model.eval()
        with Gradient(model, composite) as attributor:
            attributor(images, seed)
        model.train()

    layer_map = [
        (types.Activation, rules.Pass()),
        (types.BatchNorm, rules.Pass()),
        (types.AvgPool, rules.Norm()),
        (types.Linear, rules.Epsilon(1e-3)),
    ]
    return {
        "peer epsilon_plus_flat": lambda: attribute(
            EpsilonPlusFlat(canonizers=[ResNetCanonizer()], zero_params="bias")
        ),
        "peer official_2d": lambda: attribute(
            SpecialFirstLayerMapComposite(
                layer_map=layer_map,
                first_map=[(types.Convolution, rules.Flat())],
                canonizers=[SequentialMergeBatchNorm()],
            )
        ),
    }


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def convolutions(run: Variant) -> tuple[int, int]:
    """Return how many convolutions run forwards and backwards."""
    with _Counting() as counting:
        run()
    return counting.counts["convolution"], counting.counts["convolution_backward"]


def measure(table: dict[str, Variant], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Return seconds per round for every variant, interleaved.

    On a CPU, seconds that the process computed, which other processes disturb less than the wall clock's.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter

    def synchronize() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    seconds: dict[str, list[float]] = {name: [] for name in table}
    for round_ in range(rounds + 1):
        for name, run in table.items():
            synchronize()
            start = clock()
            run()
            synchronize()
            if round_:  # the first round warms up
                seconds[name].append(clock() - start)
    return seconds


def main() -> int:
    """Measure, print and check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=32, help="side of the images")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--stem", choices=("imagenet", "cifar"), default="imagenet")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--peer", help="folder that holds zennit")
    parser.add_argument("--json", type=Path, help="write the measurement there")
    parser.add_argument("--assert-ratio", type=float, help="fail where ours / peer is above this")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(args.batch, 3, args.size, args.size, generator=generator)
    labels = torch.randint(100, (args.batch,), generator=generator).to(device)
    images = images.to(device, memory_format=layout)
    model = model_for(args.stem).to(device, memory_format=layout)
    table = variants(model, images, labels, args.peer)

    seconds = measure(table, args.rounds, device)
    results: dict[str, dict[str, object]] = {}
    print(f"{'':26}{'seconds':>9}{'/ step':>8}{'/ peer':>8}   convolutions forward + backward")
    failed = False
    for name, run in table.items():
        peer = name.replace("ours", "peer")
        ratios = {
            other: statistics.median(a / b for a, b in zip(seconds[name], seconds[other], strict=True))
            for other in ("step", peer)
            if other in seconds and other != name
        }
        forward, backward = convolutions(run)
        shown = [f"{ratios[key]:8.2f}" if key in ratios else " " * 8 for key in ("step", peer)]
        print(f"{name:26}{statistics.median(seconds[name]):9.3f}{''.join(shown)}   {forward} + {backward}")
        results[name] = {"seconds": seconds[name], "ratios": ratios, "convolutions": [forward, backward]}
        failed |= args.assert_ratio is not None and ratios.get(peer, 0.0) > args.assert_ratio
    if args.json is not None:
        about = {key: value for key, value in vars(args).items() if key not in ("json", "peer")}
        about["torch"] = torch.__version__
        args.json.write_text(json.dumps({"settings": about, "results": results}, indent=1) + "\n")
    if failed:
        print(f"ours / peer is above {args.assert_ratio}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
