"""What the checks run on: every installed regularizer, and one regularizer on one task."""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.features import Hook
from regathlon_core.regularizer import Regularizer, build_regularizer
from regathlon_core.rng import SampleDraw, global_stream, stream
from regathlon_core.settings import ModelSettings, RegularizerSettings, TaskSettings
from regathlon_core.task import Batch, Task

ENTRY_POINTS = "regathlon.regularizers"


def all_regularizers() -> dict[str, type[RegularizerSettings]]:
    """Return the declarations of all installed regularizers by name, as the entry points list them.

    Raises:
        AssertionError: An entry point is no declaration, or its name is not the declaration's.
    """
    found: dict[str, type[RegularizerSettings]] = {}
    for point in sorted(importlib.metadata.entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        settings = point.load()
        assert isinstance(settings, type), f"the entry point {point.name} = {point.value} is not a class"
        assert issubclass(settings, RegularizerSettings), (
            f"the entry point {point.name} is no RegularizerSettings"
        )
        assert settings.name == point.name, (
            f"the entry point {point.name} leads to a regularizer {settings.name}"
        )
        found[point.name] = settings
    return found


def cases(task: TaskSettings | Task) -> list[RegularizerSettings]:
    """Return all installed regularizers that can run on a task, with settings at which they clearly act.

    Args:
        task: The task or its declaration.
    """
    declaration = task.settings if isinstance(task, Task) else task
    every = [settings(**settings.acting) for settings in all_regularizers().values()]
    return [settings for settings in every if settings.refusal(declaration) is None]


@dataclass(frozen=True)
class Case:
    """Regularizers (several act together) on a task, for a check to try.

    Attributes:
        parts: Settings of the regularizer, or of each part of a composition.
        task: The task.
    """

    parts: tuple[RegularizerSettings, ...]
    task: Task

    @property
    def name(self) -> str:
        """The regularizer as a suite would write it."""
        return "+".join(map(str, self.parts))

    def regularizer(self) -> Regularizer[Any]:
        """Return the regularizer, built anew."""
        return build_regularizer(self.parts)

    def model(self, seed: int = 0) -> nn.Module:
        """Return the task's default model, freshly initialised."""
        return fresh_model(self.task, seed)

    def batches(self, count: int, size: int = 8) -> list[Batch]:
        """Return the first training batches."""
        return training_batches(self.task, count, size)


def fresh_model(task: Task, seed: int = 0, which: int = 0) -> nn.Module:
    """Return one of a task's models, freshly initialised; torch's global generator is left as it was."""
    with global_stream(seed, "init"):
        return task.settings.models[which]().build(task)


def installed_models(task: Task) -> Iterator[tuple[int, type[ModelSettings]]]:
    """Yield the number and the declaration of each of a task's models whose modules are installed here."""
    for which, settings in enumerate(task.settings.models):
        if settings().not_installed() is None:
            yield which, settings


def training_batches(task: Task, count: int, size: int = 8) -> list[Batch]:
    """Return the first training batches of as many epochs as it takes."""
    found: list[Batch] = []
    epoch = 0
    while len(found) < count:
        order = task.order(epoch, 0, size)
        assert order, f"{task.settings.name} orders no training batch"
        found += [task.batch("train", index, SampleDraw(0, epoch)) for index in order[: count - len(found)]]
        epoch += 1
    return found


def train(
    model: nn.Module,
    task: Task,
    regularizer: Regularizer[Any],
    batches: list[Batch],
    *,
    generator_seed: int = 0,
    global_seed: int | None = 0,
    first: int = 0,
    of: int | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    on_gradients: Callable[[], None] | None = None,
) -> None:
    """Train an attached model as ``Regularizer``'s docstring says: a second implementation of the step.

    Args:
        model: The model; left in training mode.
        task: The task.
        regularizer: Attached to the model.
        batches: One per step.
        generator_seed: Of the regularizer's generator, made anew for every step so that it can be replayed.
        global_seed: Of torch's global generator, which the model's own dropout uses; None to leave it alone.
        first: Steps that were done before.
        of: Steps in all; these batches unless given.
        optimizer: To go on with one.
        on_gradients: Called in every step before the weights move.
    """
    model.train()
    regularizer.train()
    optimizer = optimizer if optimizer is not None else sgd(model, regularizer)
    total = of if of is not None else first + len(batches)
    for step, batch in enumerate(batches, start=first):
        optimizer.zero_grad(set_to_none=True)
        lent = contextlib.nullcontext() if global_seed is None else global_stream(global_seed, "model", step)
        with lent:
            for loss in step_losses(
                model, task, regularizer, batch, stream(generator_seed, "regularizer", step)
            ):
                loss.backward()  # type: ignore[no-untyped-call]
        if on_gradients is not None:
            on_gradients()
        optimizer.step()
        regularizer.after_step((step + 1) / total)


def step_losses(
    model: nn.Module,
    task: Task,
    regularizer: Regularizer[Any],
    batch: Batch,
    generator: torch.Generator,
    autocast: torch.dtype | None = None,
) -> Iterator[Tensor]:
    """Yield a step's loss terms, held to the protocol: at least one, all finite scalars with a gradient."""

    def precision() -> torch.autocast:
        return torch.autocast("cpu", dtype=autocast, enabled=autocast is not None, cache_enabled=False)

    with precision():
        changed = regularizer.transform(model, batch, task, generator)
        assert isinstance(changed, Batch), f"transform() returned {type(changed).__name__}, not a Batch"
        terms = iter(regularizer.losses(model, changed, task, generator))
    count = 0
    while True:
        with precision():
            loss = next(terms, None)
        if loss is None:
            break
        count += 1
        assert isinstance(loss, Tensor), f"losses() yielded {type(loss).__name__}, not a tensor"
        assert loss.ndim == 0, (
            f"losses() yielded a tensor of shape {tuple(loss.shape)}; loss terms are scalars"
        )
        assert torch.isfinite(loss), f"losses() yielded {float(loss.detach())}"
        assert loss.requires_grad, "losses() yielded a term without a gradient"
        yield loss
    assert count, "losses() yielded no loss term"


def sgd(model: nn.Module, regularizer: Regularizer[Any]) -> torch.optim.Optimizer:
    """Return plain SGD over the parameters of both."""
    parameters = [p for module in (model, regularizer) for p in module.parameters() if p.requires_grad]
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def attached(case: Case, model: nn.Module) -> Regularizer[Any]:
    """Return a new regularizer attached to a model; its initialisation draws from a stream of its own."""
    regularizer = case.regularizer()
    with global_stream(0, "attach"):
        regularizer.attach(model, case.task)
    return regularizer


def shortened(task: Task, batches: int) -> Task:
    """Return a task whose epochs, and whose evaluations, take only a few batches."""
    short = copy.copy(task)
    short.order = lambda epoch, seed, batch_size: task.order(epoch, seed, batch_size)[:batches]  # type: ignore[method-assign]
    short.evaluation_order = lambda split, batch_size: task.evaluation_order(split, min(batch_size, 8))[:1]  # type: ignore[method-assign]
    return short


def looking(look: Callable[[Tensor], object]) -> Hook:
    """Return a hook of a feature point that shows its features to a function and leaves them as they are."""

    def hook(module: nn.Module, inputs: Any, features: Tensor) -> None:
        look(features)

    return hook
