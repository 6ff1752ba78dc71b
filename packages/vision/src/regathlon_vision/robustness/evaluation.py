"""Robustness of a trained model to corruptions and attacks."""

from __future__ import annotations

import abc
import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.evaluation import Evaluation, Findings
from regathlon_core.task import Batch, Task
from regathlon_data import data_root
from regathlon_vision.base import ImageTask
from regathlon_vision.images import ImageFiles, central_window, list_classes
from regathlon_vision.robustness.attacks import Losses, fgsm, pgd
from regathlon_vision.robustness.constants import ALEXNET_ERRORS, COMMON
from regathlon_vision.robustness.corruptions import corrupted
from regathlon_vision.robustness.settings import CorruptionsSettings, FgsmSettings, PgdSettings

A = TypeVar("A", FgsmSettings, PgdSettings)
_BATCH = 250


class Corruptions(Evaluation[CorruptionsSettings]):
    """Top-1 errors of a classifier under common corruptions.

    Metrics, all as shares in [0, 1] (mCE may exceed 1): ``clean_error``; the error under every corruption, averaged over
    severities; ``mean_error``, their mean; and, where all fifteen corruptions and all severities were asked for, ``mce``, the
    mean of the errors divided by AlexNet's on ImageNet-C, as the GradAug paper reports it (Table 8).

    Source: Hendrycks & Dietterich 2019 (arXiv:1903.12261), section 4.1.
    """

    def run(
        self, model: nn.Module, task: Task, *, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Findings:
        """Measure a model on corrupted test images.

        Raises:
            UserError: The folder has not what it should.
        """
        images = _image_task(task)
        clean = _Score()
        for batch in _test_batches(images, self.settings.samples, generator):
            clean.add(_predicted(model, images, batch.inputs.to(device)), batch.targets)
        names = self.settings.only or COMMON
        errors = (
            self._read(model, images, names, device)
            if self.settings.folder
            else self._made(model, images, names, generator, device)
        )
        return Findings({"clean_error": clean.error, **summary(errors, self.settings.severities)})

    def _made(
        self,
        model: nn.Module,
        task: ImageTask,
        names: tuple[str, ...],
        generator: torch.Generator,
        device: torch.device | str,
    ) -> Mapping[str, float]:
        scores: dict[str, _Score] = defaultdict(_Score)
        for batch in _test_batches(task, self.settings.samples, generator):
            pixels = task.pixels(batch.inputs).clamp(0, 1)
            for name in names:
                for severity in self.settings.severities:
                    changed = corrupted(pixels, name, severity, generator=generator).to(device)
                    scores[name].add(_predicted(model, task, task.normalized(changed)), batch.targets)
        return {name: scores[name].error for name in names}

    def _read(
        self, model: nn.Module, task: ImageTask, names: tuple[str, ...], device: torch.device | str
    ) -> Mapping[str, float]:
        folder = data_root(self.data) / self.settings.folder
        size = tuple(task.batch("test", torch.tensor([0])).inputs.shape[-2:])
        errors = {}
        for name in names:
            score = _Score()
            for severity in self.settings.severities:
                for pixels, targets in _stored(folder, name, severity, task.classes, (size[0], size[1])):
                    inputs = task.normalized(pixels.to(device).float() / 255)
                    score.add(_predicted(model, task, inputs), targets)
            errors[name] = score.error
        return errors


def summary(errors: Mapping[str, float], severities: tuple[int, ...]) -> dict[str, float]:
    """Return errors by corruption with their mean and, where they are complete, AlexNet's as the measure.

    Example:
        >>> found = summary(dict(ALEXNET_ERRORS), (1, 2, 3, 4, 5))
        >>> round(found["mce"], 6), round(found["mean_error"], 4)
        (1.0, 0.789)
    """
    found = {**errors, "mean_error": sum(errors.values()) / len(errors)}
    if set(errors) >= set(COMMON) and set(severities) == {1, 2, 3, 4, 5}:
        found["mce"] = sum(errors[name] / ALEXNET_ERRORS[name] for name in COMMON) / len(COMMON)
    return found


class _Attack(Evaluation[A], abc.ABC):
    """Accuracy on test images that are changed so that the model's loss rises."""

    def run(
        self, model: nn.Module, task: Task, *, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Findings:
        """Attack a model through its own gradients; pixels stay in [0, 1]."""
        images = _image_task(task)
        clean, scores = _Score(), [_Score() for _ in self.settings.epsilons]
        for batch in _test_batches(images, self.settings.samples, generator):
            targets = batch.targets.to(device)
            pixels = images.pixels(batch.inputs.to(device)).clamp(0, 1)

            losses = functools.partial(_losses, model, images, targets)
            clean.add(_predicted(model, images, images.normalized(pixels)), batch.targets)
            for epsilon, score in zip(self.settings.epsilons, scores, strict=True):
                changed = self._attacked(losses, pixels, epsilon, generator)
                score.add(_predicted(model, images, images.normalized(changed)), batch.targets)
        found = {
            f"accuracy_{epsilon:.4g}": 1 - score.error
            for epsilon, score in zip(self.settings.epsilons, scores, strict=True)
        }
        return Findings({"clean_accuracy": 1 - clean.error, **found})

    @abc.abstractmethod
    def _attacked(self, losses: Losses, pixels: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
        """Return the changed pixels."""


class Fgsm(_Attack[FgsmSettings]):
    """Accuracy under the fast gradient sign method: ``accuracy_<epsilon>`` and ``clean_accuracy``, in [0, 1].

    The GradAug paper (Table 9) does not say on which scale its epsilons are; here pixels range from 0 to 1.
    """

    def _attacked(self, losses: Losses, pixels: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
        return fgsm(losses, pixels, epsilon)


class Pgd(_Attack[PgdSettings]):
    """Accuracy under projected gradient descent: ``accuracy_<epsilon>`` and ``clean_accuracy``, in [0, 1]."""

    def _attacked(self, losses: Losses, pixels: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
        settings = self.settings
        return pgd(losses, pixels, epsilon, steps=settings.steps, step=settings.step, generator=generator)


class _Score:
    """Counts wrong predictions."""

    def __init__(self) -> None:
        self.wrong = self.count = 0

    def add(self, predicted: Tensor, targets: Tensor) -> None:
        self.wrong += int((predicted.cpu() != targets.cpu()).sum())
        self.count += len(targets)

    @property
    def error(self) -> float:
        return self.wrong / max(self.count, 1)


def _image_task(task: Task) -> ImageTask:
    if isinstance(task, ImageTask) and task.pixel_mean:
        return task
    raise UserError(
        f"{task.settings.name} does not say how its inputs come from pixels (pixel_mean, pixel_std)."
    )


def _test_batches(task: ImageTask, samples: int, generator: torch.Generator) -> Iterator[Batch]:
    """Yield test batches: of all images, or of some that are the same wherever the generator stands at the start."""
    size = task.size("test")
    if not size:
        raise UserError(f"{task.settings.name} has no test images.")
    index = torch.arange(size)
    if 0 < samples < size:
        chosen = torch.Generator().manual_seed(generator.initial_seed())
        index = torch.randperm(size, generator=chosen)[:samples].sort().values
    for part in torch.split(index, _BATCH):
        yield task.batch("test", part)


def _logits(model: nn.Module, task: ImageTask, inputs: Tensor) -> Tensor:
    targets = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)
    logits: Tensor = task.predict(model, Batch(inputs, targets))
    return logits


def _losses(model: nn.Module, task: ImageTask, targets: Tensor, pixels: Tensor) -> Tensor:
    return F.cross_entropy(_logits(model, task, task.normalized(pixels)), targets, reduction="none")


def _predicted(model: nn.Module, task: ImageTask, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return _logits(model, task, inputs).argmax(dim=1)


def _stored(
    folder: Path, name: str, severity: int, classes: tuple[str, ...], size: tuple[int, int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield corrupted images, uint8 [B, C, H, W], with their labels."""
    array, labels = folder / f"{name}.npy", folder / "labels.npy"
    if array.is_file() and labels.is_file():
        try:
            images = np.load(array, mmap_mode="r", allow_pickle=False)
            targets = np.load(labels, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UserError(f"It is damaged or no array: {error}", where=str(array)) from error
        each = len(images) // 5  # the five severities stand one after another
        if images.ndim != 4 or len(targets) != len(images) or len(images) % 5:
            raise UserError("It holds no images of five severities with labels.", where=str(array))
        for start in range((severity - 1) * each, severity * each, _BATCH):
            part = slice(start, min(start + _BATCH, severity * each))
            pixels = torch.from_numpy(np.array(images[part], dtype=np.uint8)).permute(0, 3, 1, 2)
            yield pixels, torch.from_numpy(targets[part].astype(np.int64))
        return
    listing = list_classes(folder / name / str(severity), classes)
    files = ImageFiles(listing.paths, memory=0)
    for index in torch.split(torch.arange(len(files)), _BATCH):
        pixels = files.windows(index, size, lambda at, height, width: central_window(height, width))
        yield pixels, listing.labels[index]
