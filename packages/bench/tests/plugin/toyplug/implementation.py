"""Implementations."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from regathlon_core.evaluation import Evaluation, Findings, Picture
from regathlon_core.metrics import ConfusionMetrics, Metrics
from regathlon_core.regularizer import Regularizer
from regathlon_core.rng import SampleDraw, stream
from regathlon_core.task import Batch, Split, Task
from toyplug.settings import BlobsSettings, BoomSettings, NoiseSettings, SlowSettings


class Blobs(Task):
    """Three Gaussian blobs in the plane."""

    def __init__(self, settings: BlobsSettings, data: object = None) -> None:
        super().__init__(settings)
        self.parts = {}
        for split, count in (("train", 96), ("val", 60), ("test", 90)):
            labels = torch.arange(count) % 3
            noise = torch.randn(count, 2, generator=stream(0, "blobs", split))
            centres = torch.tensor([[0.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
            self.parts[split] = centres[labels] + settings.spread * noise, labels

    @property
    def classes(self) -> tuple[str, ...]:
        return ("top", "right", "left")

    @property
    def in_channels(self) -> int:
        return 2

    def size(self, split: Split) -> int:
        return len(self.parts[split][1])

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        inputs, labels = (part[index] for part in self.parts[split])
        if draw is not None:
            inputs = inputs + 0.1 * draw.uniform(index, 2, purpose="jitter")
        return Batch(inputs, labels, index=index)

    def metrics(self) -> Metrics:
        return ConfusionMetrics(3)


def build_linear(settings: object, task: Task) -> nn.Module:
    return nn.Linear(task.in_channels, len(task.classes))


def build_mlp(settings: object, task: Task) -> nn.Module:
    width = settings.width
    return nn.Sequential(
        nn.Linear(task.in_channels, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, len(task.classes))
    )


class Weights(Evaluation):
    def run(self, model: nn.Module, task: Task, *, generator: torch.Generator, device: object) -> Findings:
        if self.settings.fail:
            raise RuntimeError("cannot be drawn")
        assert not model.training
        first = next(model.parameters()).detach()
        shades = ((first - first.min()) / (first.max() - first.min()) * 255).to(torch.uint8)
        draw = float(torch.rand((), generator=generator))
        numbers = {"norm": float(first.norm()), "draw": draw, "endless": float("inf")}
        return Findings(
            numbers, [Picture("../first layer", "The <first> layer", shades.expand(3, *shades.shape))]
        )


class Noise(Regularizer):
    Settings = NoiseSettings

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        scale = getattr(self.settings, "scale", 0.1)
        noise = torch.randn(batch.inputs.shape, generator=generator)
        return batch.replace(inputs=batch.inputs + scale * noise)


class Slow(Regularizer):
    Settings = SlowSettings

    def after_step(self, progress: float) -> None:
        time.sleep(self.settings.seconds)


class Boom(Regularizer):
    Settings = BoomSettings

    def __init__(self, settings: BoomSettings) -> None:
        super().__init__(settings)
        self.steps = 0

    def losses(
        self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator
    ) -> Iterator[Tensor]:
        loss = task.loss(model, batch)
        self.steps += 1
        if self.steps == 5:
            how = self.settings.how
            if how == "raise":
                raise RuntimeError("the toy went wrong\non purpose")
            if how == "exit":
                sys.exit(3)
            if how == "leave":
                os._exit(0)
            if how == "segv":
                os.kill(os.getpid(), signal.SIGSEGV)
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "memory":
                raise MemoryError("no room for 3 GB")
            if how == "nan":
                loss = loss * float("nan")
        yield loss
