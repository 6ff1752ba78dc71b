"""The engine's plain ResNet-18 step beside a loop written by hand, step by step in turn, on one thread.

The second hand-written loop is the first one again: how far it is from 1 is the noise of the measurement.

python benchmarks/speed/engine.py --assert-ratio 1.03 --json engine.json
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from timing import Ratio, report
from torch import Tensor, nn
from torchvision.models import resnet18

from regathlon_core import Batch, Budget, EpochRecord, Recipe, SampleDraw, Task, TaskSettings, fit
from regathlon_core.metrics import ConfusionMetrics
from regathlon_core.task import Split

CLASSES = 10
SAMPLES = 4096
COUNTED_FLOPS = 3  # the engine counts operations in its first steps, which are slower for it

RECIPE = Recipe(lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4, schedule="cosine")


@dataclass(frozen=True)
class NoiseSettings(TaskSettings):
    """Images of noise, as large as CIFAR's."""

    name: ClassVar[str] = "vision/noise"
    summary: ClassVar[str] = "noise"
    implementation: ClassVar[str] = "engine:Noise"
    dataset: ClassVar[str] = "noise"
    provides: ClassVar[frozenset[str]] = frozenset({"class_labels", "sample_labels", "grid_inputs"})
    metric: ClassVar[str] = "accuracy"


class Noise(Task):
    """Images of noise in memory; nothing to evaluate on."""

    classes = tuple(map(str, range(CLASSES)))
    in_channels = 3

    def __init__(self) -> None:
        super().__init__(NoiseSettings())
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(SAMPLES, 3, 32, 32, generator=generator)
        self.labels = torch.randint(CLASSES, (SAMPLES,), generator=generator)

    def size(self, split: Split) -> int:
        return SAMPLES if split == "train" else 0

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        return Batch(self.images[index], self.labels[index], index=index)

    def metrics(self) -> ConfusionMetrics:
        return ConfusionMetrics(CLASSES)


def loop_by_hand(task: Noise, batch_size: int, steps: int, device: str) -> Callable[[], None]:
    """Return a function that does one step of an ordinary training loop."""
    torch.manual_seed(0)
    model = resnet18(num_classes=CLASSES).to(device).train()
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=RECIPE.lr,
        momentum=RECIPE.momentum,
        nesterov=True,
        weight_decay=RECIPE.weight_decay,
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    criterion = nn.CrossEntropyLoss()
    batches = iter(torch.arange(SAMPLES).repeat(1 + steps * batch_size // SAMPLES).split(batch_size))
    total = torch.zeros((), device=device)

    def step() -> None:
        nonlocal total
        index = next(batches)
        images, labels = task.images[index].to(device), task.labels[index].to(device)
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.detach()

    return step


class StepByStep:
    """Lets loops written by hand step after every step of the engine, and takes the time of each."""

    def __init__(self, others: dict[str, Callable[[], None]], device: str) -> None:
        self.others, self.device = others, device
        self.times: dict[str, list[tuple[float, float]]] = {name: [] for name in (*others, "engine")}

    def started(self, step: int, total_steps: int, history: tuple[EpochRecord, ...]) -> None:
        self._start()

    def stepped(self, step: int, total_steps: int) -> None:
        self._stop("engine")
        names = list(self.others)
        for name in names[step % len(names) :] + names[: step % len(names)]:
            self._start()
            self.others[name]()
            self._stop(name)
        self._start()

    def epoch_ended(self, record: EpochRecord) -> None:
        self._start()

    def stop_requested(self) -> bool:
        return False

    def ratios(self, base: str, skipped: int) -> dict[str, Ratio]:
        """Return the median cost of a step over that of the base's step next to it."""
        kept = {name: times[skipped:] for name, times in self.times.items()}

        def ratio(name: str, clock: int) -> float:
            return statistics.median(a[clock] / b[clock] for a, b in zip(kept[name], kept[base], strict=True))

        return {
            name: Ratio(ratio(name, 0), ratio(name, 1), 1000 * statistics.median(cpu for _, cpu in times))
            for name, times in kept.items()
        }

    def _start(self) -> None:
        self._synchronize()
        self._at = time.perf_counter(), time.process_time()

    def _stop(self, name: str) -> None:
        self._synchronize()
        wall, cpu = self._at
        self.times[name].append((time.perf_counter() - wall, time.process_time() - cpu))

    def _synchronize(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()


def main() -> int:
    """Run the comparison; return 1 where the engine is slower than asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--warm-up", type=int, default=5, help="first steps that are not counted")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--assert-ratio", type=float, help="fail where engine/hand is above this")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()

    torch.set_num_threads(1)
    task = Noise()
    steps = options.steps + max(options.warm_up, COUNTED_FLOPS)
    others = {
        name: loop_by_hand(task, options.batch_size, steps, options.device)
        for name in ("by hand", "by hand again")
    }
    observer = StepByStep(others, options.device)
    recipe = replace(RECIPE, batch_size=options.batch_size, budget=Budget(steps=steps))
    torch.manual_seed(0)
    fit(resnet18(num_classes=CLASSES), task, None, recipe, device=options.device, observer=observer)
    ratios = observer.ratios("by hand", skipped=steps - options.steps)
    setting = f"ResNet-18, [{options.batch_size}, 3, 32, 32], SGD, {options.device}"
    return report(
        {setting: ratios}, json_path=options.json, subject="engine", assert_ratio=options.assert_ratio
    )


if __name__ == "__main__":
    sys.exit(main())
