"""A step of GradAug beside a plain step and beside an implementation that rewrites the model's layers, in one process.

python benchmarks/speed/gradaug.py --model resnet50 --batch 16 --rounds 5 --assert-floor 1.05 --assert-memory 1.10

The floor of a step's cost is the arithmetic of its passes, weighted by widths and resolutions: counted, not computed from a
formula. Every step makes the same draws (--draw). The reference slices the weights in the forward of its own layers, as slimmable
networks do (Yu et al. 2019, arXiv 1812.08928), here written anew; it needs a rewritten model, and its results are the same.
"Separate models" trains models of their own at the same widths and resolutions: what this machine needs for that arithmetic,
which is more than the count says where maps are tiny or channels are no multiples of its vectors.

On a GPU (--device cuda) elapsed time counts instead of the process's, and memory is the most that torch allocated.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
import torchvision
from timing import compare, report
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from regathlon_core import Batch, GradAug
from regathlon_core.passes import PassRole, run_as
from regathlon_core.regularizers.gradaug.functional import sample_widths
from regathlon_core.rng import stream
from regathlon_core.subnetworks import kept_channels
from regathlon_vision import Cifar10Settings, WideResNet
from regathlon_vision.classification.cifar import CifarTask

SETTINGS = {"n": 3, "alpha": 0.8}


class Width:
    """The width that every rewritten layer of a model runs at."""

    def __init__(self, divisor: int) -> None:
        self.value, self.divisor = 1.0, divisor

    def keep(self, channels: int) -> int:
        return kept_channels(channels, self.value, self.divisor)


class SlicedConv(nn.Conv2d):
    """A convolution that cuts its weight to what arrives and to what the width keeps."""

    width: Width

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight[: self.width.keep(self.out_channels), : x.shape[1]]
        return F.conv2d(x, weight, None, self.stride, self.padding)


class SlicedNorm(nn.BatchNorm2d):
    """Batch-norm that cuts its affine parameters; only at full width it moves its statistics."""

    width: Width

    def forward(self, x: Tensor) -> Tensor:
        if self.width.value == 1.0 and self.track_running_stats:
            return super().forward(x)
        kept = x.shape[1]
        return F.batch_norm(
            x, None, None, self.weight[:kept], self.bias[:kept], True, self.momentum, self.eps
        )


class SlicedLinear(nn.Linear):
    """A classifier that cuts its weight to what arrives."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight[:, : x.shape[1]], self.bias)


def rewritten(model: nn.Module, divisor: int) -> tuple[nn.Module, Width]:
    """Return a copy of a residual network with sliced layers, and the width that they run at."""
    model, width = copy.deepcopy(model), Width(divisor)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
            module.__class__ = SlicedConv if isinstance(module, nn.Conv2d) else SlicedNorm
            module.width = width
        elif isinstance(module, nn.Linear):
            module.__class__ = SlicedLinear
    return model, width


class OneBatch(CifarTask):
    """The views and losses of CIFAR's task without its data."""

    def __init__(self) -> None:
        self.settings = Cifar10Settings()


def reference_losses(
    model: nn.Module, width: Width, batch: Batch, task: CifarTask, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield the loss terms of GradAug with a rewritten model."""
    outputs = model(batch.inputs)
    yield task.criterion(outputs, batch)
    soft = outputs.detach()
    del outputs
    views = task.views(batch, generator)
    for value in sample_widths(SETTINGS["n"], SETTINGS["alpha"], generator):
        view = next(views)
        width.value = value
        with run_as(model, PassRole.SUB):
            logits = model(view.batch.inputs)
        width.value = 1.0
        yield task.soft_loss(logits, soft)


def smaller(model: nn.Module, value: float, divisor: int) -> nn.Module:
    """Return a model of its own that holds the first channels of a residual network's layers."""
    small, width = copy.deepcopy(model), Width(divisor)
    width.value = value
    for module in small.modules():
        if isinstance(module, nn.Conv2d):
            inputs = module.in_channels if module.in_channels == 3 else width.keep(module.in_channels)
            module.weight = nn.Parameter(
                module.weight.detach()[: width.keep(module.out_channels), :inputs].clone()
            )
        elif isinstance(module, nn.BatchNorm2d):
            kept = width.keep(module.num_features)
            for name in ("weight", "bias"):
                setattr(module, name, nn.Parameter(getattr(module, name).detach()[:kept].clone()))
            for name in ("running_mean", "running_var"):
                setattr(module, name, getattr(module, name)[:kept].clone())
        elif isinstance(module, nn.Linear):
            module.weight = nn.Parameter(module.weight.detach()[:, : width.keep(module.in_features)].clone())
    return small


def separate_losses(
    models: list[nn.Module], batch: Batch, task: CifarTask, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield the loss terms of the full network and of models of their own: what the same arithmetic costs by itself."""
    full, *others = models
    outputs = full(batch.inputs)
    yield task.criterion(outputs, batch)
    soft = outputs.detach()
    del outputs
    views = task.views(batch, generator)
    sample_widths(SETTINGS["n"], SETTINGS["alpha"], generator)  # they were drawn when the models were made
    for model in others:
        model.zero_grad(set_to_none=True)
        yield task.soft_loss(model(next(views).batch.inputs), soft)


def training_step(
    model: nn.Module, losses: Callable[[torch.Generator], Iterator[Tensor]], draw: int
) -> Callable[[], None]:
    """Return an optimizer step that makes the same draws whenever it is called."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, nesterov=True)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        for loss in losses(stream(draw, "benchmark")):
            loss.backward()
            del loss
        optimizer.step()

    return run


def peak_memory(model: nn.Module, step: Callable[[], None]) -> int:
    """Return the most bytes held in a step: its own, and the model's weights, momenta and statistics."""
    step()
    parameters = sum(parameter.nbytes for parameter in model.parameters())
    held_before = 2 * parameters + sum(buffer.nbytes for buffer in model.buffers())
    if next(model.parameters()).is_cuda:
        model.zero_grad(set_to_none=True)  # the step's gradients are its own, not held before it
        torch.cuda.reset_peak_memory_stats()
        allocated = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - allocated + held_before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step()
    held = peak = 0
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak + held_before


def operations(step: Callable[[], None]) -> int:
    """Return the floating-point operations of a step's matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def main() -> int:
    """Run the comparison; return 1 where a bound that was asked for does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", choices=["resnet50", "wrn-28-10", "wrn-16-2"], nargs="+", default=["resnet50"]
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=32, help="pixels of a side of the images")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--draw", type=int, default=0, help="seed of widths and resolutions")
    parser.add_argument("--divisor", type=int, default=1, help="sub-networks keep multiples of it")
    parser.add_argument("--assert-floor", type=float, help="fail where time over the floor is above this")
    parser.add_argument(
        "--assert-memory", type=float, help="fail where peak memory over a plain step's is above this"
    )
    parser.add_argument(
        "--assert-reference", type=float, help="fail where time over the reference's is above this"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()

    torch.set_num_threads(1)
    task, results, failures, record = OneBatch(), {}, [], {}
    for name in options.model:
        model = {
            "resnet50": lambda: torchvision.models.resnet50(num_classes=10),
            "wrn-28-10": lambda: WideResNet(3, 10, depth=28, widen=10),
            "wrn-16-2": lambda: WideResNet(3, 10, depth=16, widen=2),
        }[name]()
        model.train().to(options.device)
        inputs = torch.randn(options.batch, 3, options.size, options.size)
        batch = Batch(inputs, torch.randint(10, (options.batch,))).to(options.device)
        steps = {
            key: training_step(*variant, options.draw)
            for key, variant in variants(model, batch, task, options.draw, options.divisor).items()
        }
        times = compare(steps, options.rounds, warm_up=1)
        floor = operations(steps["gradaug"]) / operations(steps["plain"])
        memory = {key: peak_memory(model, step) for key, step in steps.items()}
        images = f"{options.size}x{options.size} on {options.device}, batch {options.batch}"
        setting = f"{name}, {images}, multiples of {options.divisor}"
        results[setting] = times
        cost = {key: ratio.cpu if options.device == "cpu" else ratio.wall for key, ratio in times.items()}
        found = SimpleNamespace(
            floor=floor,
            over_floor=cost["gradaug"] / floor,
            over_reference=cost["gradaug"] / cost["reference"],
            separate_over_floor=cost["separate models"] / floor,
            memory=memory["gradaug"] / memory["plain"],
            reference_memory=memory["reference"] / memory["plain"],
        )
        record[setting] = vars(found)
        for key, bound in (
            ("over_floor", options.assert_floor),
            ("memory", options.assert_memory),
            ("over_reference", options.assert_reference),
        ):
            if bound is not None and getattr(found, key) > bound:
                failures.append(f"{setting}: {key} is {getattr(found, key):.3f}, above {bound:g}")
    code = report(results, json_path=None, subject="gradaug", assert_ratio=None)
    for setting, found in record.items():
        print(setting, *(f"  {key:17} {value:.3f}" for key, value in found.items()), sep="\n")
    for failure in failures:
        print(failure, file=sys.stderr)
    if options.json is not None:
        timed = {
            setting: {key: vars(ratio) for key, ratio in ratios.items()}
            for setting, ratios in results.items()
        }
        options.json.write_text(
            json.dumps({"torch": torch.__version__, "times": timed, "bounds": record}, indent=2) + "\n"
        )
    return code or bool(failures)


def variants(
    model: nn.Module, batch: Batch, task: CifarTask, draw: int, divisor: int
) -> dict[str, tuple[nn.Module, Callable[[torch.Generator], Iterator[Tensor]]]]:
    """Return every variant's model and loss terms."""
    sliced, width = rewritten(model, divisor)
    ours, regularizer = copy.deepcopy(model), GradAug(**SETTINGS, divisor=divisor)
    regularizer.attach(ours, task)
    full = copy.deepcopy(model)
    widths = sample_widths(SETTINGS["n"], SETTINGS["alpha"], stream(draw, "benchmark"))
    models = [full, *(smaller(model, value, divisor) for value in widths)]
    return {
        "plain": (model, lambda generator: iter([task.loss(model, batch)])),
        "gradaug": (ours, lambda generator: regularizer.losses(ours, batch, task, generator)),
        "reference": (sliced, lambda generator: reference_losses(sliced, width, batch, task, generator)),
        "separate models": (full, lambda generator: separate_losses(models, batch, task, generator)),
    }


if __name__ == "__main__":
    sys.exit(main())
