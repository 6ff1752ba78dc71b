"""The training loop."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from regathlon_core.engine.checkpoint import load_checkpoint, save_checkpoint
from regathlon_core.engine.cost import Cost, CostMeter
from regathlon_core.engine.optimization import build_optimizer, set_learning_rate
from regathlon_core.errors import UserError
from regathlon_core.recipe import Recipe
from regathlon_core.regularizer import Regularizer
from regathlon_core.regularizers.none.regularizer import NoRegularizer
from regathlon_core.rng import SampleDraw, global_stream, stream
from regathlon_core.settings import Selection
from regathlon_core.task import Batch, Split, Task

logger = logging.getLogger(__name__)

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_CUDA_CHECK_EVERY = 25


class NonFiniteLoss(RuntimeError):
    """A loss term became infinite or NaN; training on would only destroy the weights."""


class Interrupted(RuntimeError):
    """Training was asked to stop; its checkpoint, if it has one, holds everything to go on from."""


@dataclass(frozen=True)
class EpochRecord:
    """What was measured at the end of an epoch.

    Attributes:
        epoch: Epochs done.
        step: Optimizer steps done.
        train_loss: Sum of a step's loss terms, averaged over the epoch's steps.
        lr: Learning rate of the epoch's last step.
        seconds: Training time so far, evaluation not counted.
        val: Metrics on the validation split; empty where not evaluated.
        test: Metrics on the test split; empty where not evaluated.
        diagnostics: What the regularizer says of itself.
    """

    epoch: int
    step: int
    train_loss: float
    lr: float
    seconds: float
    val: Mapping[str, float] = field(default_factory=dict)
    test: Mapping[str, float] = field(default_factory=dict)
    diagnostics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FitResult:
    """A finished training.

    Attributes:
        history: One record per epoch.
        cost: What it took.
        model: The model that the last record was measured on: the trained one, plain, or what the regularizer
            made of it (an average of weights).
    """

    history: tuple[EpochRecord, ...]
    cost: Cost
    model: nn.Module

    def select(self, selection: Selection, metric: str, *, lower_is_better: bool = False) -> EpochRecord:
        """Return the record that a result is read from.

        Args:
            selection: ``"last"``; ``"best_val"``, the best on the validation split; or ``"oracle"``, the best
                on the test split, no fair protocol, as its name says. Ties go to the earlier epoch.
            metric: What "best" means.
            lower_is_better: Whether small values of it are good.

        Raises:
            UserError: The metric was not measured on the split to select on.
        """
        evaluated = [record for record in self.history if record.test or record.val]
        if not evaluated:
            raise UserError("There is nothing to select: the task was never evaluated.")
        if selection == "last":
            return evaluated[-1]
        split = "val" if selection == "best_val" else "test"
        scores = [getattr(record, split).get(metric, math.nan) for record in evaluated]
        if all(math.isnan(score) for score in scores):
            raise UserError(
                f"Selection {selection!r} needs {metric!r} on the {split} split, which was not measured."
            )
        sign = -1 if lower_is_better else 1
        return max(
            zip(evaluated, scores, strict=True),
            key=lambda pair: -math.inf if math.isnan(pair[1]) else sign * pair[1],
        )[0]


class Observer(Protocol):
    """Hears what a training does; every method may be called from the training's thread only."""

    def started(self, step: int, total_steps: int, history: tuple[EpochRecord, ...]) -> None:
        """Training begins, or goes on from ``step`` with the history so far.

        ``total_steps`` is what the budget affords: an estimate under a budget of seconds or FLOPs, 0 before
        there is any.
        """

    def stepped(self, step: int, total_steps: int) -> None:
        """An optimizer step is done."""

    def epoch_ended(self, record: EpochRecord) -> None:
        """An epoch is done and measured."""

    def stop_requested(self) -> bool:
        """Return True to have the state saved and the training stopped."""
        ...


class SilentObserver:
    """Hears and says nothing."""

    def started(self, step: int, total_steps: int, history: tuple[EpochRecord, ...]) -> None:
        """Ignore it."""

    def stepped(self, step: int, total_steps: int) -> None:
        """Ignore it."""

    def epoch_ended(self, record: EpochRecord) -> None:
        """Ignore it."""

    def stop_requested(self) -> bool:
        """Never ask to stop."""
        return False


def fit(
    model: nn.Module,
    task: Task,
    regularizer: Regularizer[Any] | None = None,
    recipe: Recipe | None = None,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 30.0,
    prefetch: int = 0,
    observer: Observer | None = None,
) -> FitResult:
    """Train a model on a task with a regularizer; the model is trained in place and left plain.

    The same arguments give the same bits, whether or not the training was killed and called again with its
    checkpoint on the way, on the same kind of device with the same number of threads.

    Args:
        model: Freshly initialised; moved to ``device``.
        task: What to learn.
        regularizer: How; None for the plain model.
        recipe: Optimizer, schedule, budget and precision; None for the task's own.
        seed: Of everything random: order of samples, augmentation, regularizer, dropout inside the model.
        device: ``"cpu"`` or ``"cuda"``.
        checkpoint: File to resume from where it exists, and to save to; None for none.
        checkpoint_seconds: Seconds between saves; one is also made when a stop is requested.
        prefetch: Batches that a thread prepares ahead, where reading them takes time that the device could
            use; the numbers are the same.
        observer: Hears of steps and epochs, and may ask to stop.

    Returns:
        The measured epochs and the cost.

    Raises:
        NonFiniteLoss: A loss term became infinite or NaN.
        Interrupted: The observer asked to stop; the checkpoint, if there is one, was saved.
        UserError: The checkpoint is damaged or belongs to another training.

    Example:
        >>> from regathlon_core import Budget, DropBlock, Recipe, fit
        >>> from regathlon_core.testing import ToyImages
        >>> task = ToyImages()
        >>> result = fit(task.model(seed=0), task, DropBlock(p=0.1), Recipe(budget=Budget(epochs=2)))
        >>> [record.epoch for record in result.history]
        [1, 2]
    """
    regularizer = regularizer if regularizer is not None else NoRegularizer()
    try:
        # What attach initialises draws from the same stream as dropout inside the model.
        with global_stream(seed, "model", device=device):
            training = _Training(
                model=model,
                task=task,
                regularizer=regularizer,
                recipe=recipe if recipe is not None else task.settings.recipe,
                seed=seed,
                device=torch.device(device),
                checkpoint=checkpoint,
                checkpoint_seconds=checkpoint_seconds,
                prefetch=prefetch,
                observer=observer if observer is not None else SilentObserver(),
            )
            return training.run()
    finally:
        regularizer.detach()


class _Training:
    """The state of one training, and the moves between its states."""

    def __init__(
        self,
        *,
        model: nn.Module,
        task: Task,
        regularizer: Regularizer[Any],
        recipe: Recipe,
        seed: int,
        device: torch.device,
        checkpoint: Path | None,
        checkpoint_seconds: float,
        prefetch: int,
        observer: Observer,
    ) -> None:
        self.task, self.recipe, self.seed, self.device, self.observer = task, recipe, seed, device, observer
        self.checkpoint, self.checkpoint_seconds = checkpoint, checkpoint_seconds
        self.prefetch = prefetch
        self.model = model.to(device)
        self.regularizer = regularizer.to(device)
        self.regularizer.attach(self.model, task)
        self.regularizer.to(device)  # what attach registered
        self.optimizer = build_optimizer(recipe, self.model, self.regularizer)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        self.generator = stream(seed, "regularizer", device=device)
        self.meter = CostMeter(device, exact_flops=recipe.budget.kind == "flops")
        self.steps_per_epoch = len(task.order(0, seed, recipe.batch_size))
        if not self.steps_per_epoch:
            raise UserError(f"{task.settings.name} has no training samples.")
        self.step = 0
        self.epoch = 0
        self.step_in_epoch = 0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.history: list[EpochRecord] = []

    @property
    def spent(self) -> float:
        """Share of the budget that is spent."""
        return self.recipe.budget.spent(
            step=self.step,
            steps_per_epoch=self.steps_per_epoch,
            seconds=self.meter.seconds,
            flops=self.meter.flops,
        )

    @property
    def total_steps(self) -> int:
        """Steps that the budget affords, as far as is known."""
        known = self.recipe.budget.total_steps(self.steps_per_epoch)
        if known is not None:
            return known
        return round(self.step / self.spent) if self.spent else 0

    @property
    def finished(self) -> bool:
        """Whether another step would lead further from the budget than the last one came to it."""
        if self.recipe.budget.total_steps(self.steps_per_epoch) is not None:
            return self.step >= self.total_steps
        return self.step > 0 and self.spent * (1 + 0.5 / self.step) >= 1

    def run(self) -> FitResult:
        """Train to the end of the budget, from the checkpoint where there is one."""
        if self.checkpoint is not None and self.checkpoint.exists():
            self._restore(load_checkpoint(self.checkpoint))
            logger.info("resumed %s at step %d of %d", self.checkpoint, self.step, self.total_steps)
        self.observer.started(self.step, self.total_steps, tuple(self.history))
        self.saved_at = time.monotonic()
        while not self.finished:
            self.model.train()
            self.regularizer.train()
            order = self.task.order(self.epoch, self.seed, self.recipe.batch_size)
            with contextlib.closing(self._batches(order[self.step_in_epoch :])) as batches:
                self._train_epoch(batches, len(order))
        return FitResult(tuple(self.history), self.meter.cost(), self.regularizer.evaluated(self.model))

    def _batches(self, order: Sequence[Tensor]) -> Generator[Batch, None, None]:
        """Yield an epoch's batches on the device, some of them prepared ahead by a thread."""
        draw = SampleDraw(self.seed, self.epoch)
        if not self.prefetch:
            for index in order:
                yield self.task.batch("train", index, draw).to(self.device)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
            coming: deque[Future[Batch]] = deque()
            try:
                for position in range(len(order)):
                    for index in order[position + len(coming) : position + self.prefetch + 1]:
                        coming.append(thread.submit(self.task.batch, "train", index, draw))
                    yield coming.popleft().result().to(self.device)
            finally:
                for batch in coming:
                    batch.cancel()

    def _train_epoch(self, batches: Iterator[Batch], steps: int) -> None:
        """Train to the end of an epoch of so many steps, or of the budget."""
        epoch_ends = False
        while not epoch_ends:
            with self.meter.step():
                self._train_step(next(batches))
            with self.meter.end_of_step():
                self.regularizer.after_step(min(self.spent, 1.0))
            self.observer.stepped(self.step, self.total_steps)
            epoch_ends = self.step_in_epoch == steps or self.finished
            if epoch_ends:
                self._end_epoch()
            stop = self.observer.stop_requested() and not self.finished
            due = time.monotonic() - self.saved_at >= self.checkpoint_seconds and not self.finished
            if self.checkpoint is not None and (stop or due):
                self.meter.synchronize()  # else the wait for queued steps would count as saving
                save_checkpoint(self.checkpoint, self._state())
                self.saved_at = time.monotonic()
            if stop:
                raise Interrupted(f"stopped at step {self.step} of {self.total_steps}")

    def _train_step(self, batch: Batch) -> None:
        set_learning_rate(self.optimizer, self.recipe.lr_at(min(self.spent, 1.0)))
        self.optimizer.zero_grad(set_to_none=True)
        # Closed at once after an error: passes in progress put the model's flags back before detach().
        with contextlib.closing(self._losses(batch)) as losses:
            for loss in losses:
                if loss.ndim:
                    raise UserError(
                        f"{self.regularizer.extra_repr()} yielded a loss term of shape {tuple(loss.shape)}; "
                        f"loss terms are scalars."
                    )
                self._check_finite(loss)
                self.loss_sum += loss.detach()
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self.step_in_epoch += 1

    def _losses(self, batch: Batch) -> Generator[Tensor, None, None]:
        """Yield loss terms, each computed under autocast and handed over outside of it."""
        dtype = _AUTOCAST.get(self.recipe.precision)

        def autocast() -> torch.autocast:
            # No cache of cast weights: one made under no_grad (a teacher's pass) carries no gradient later.
            return torch.autocast(
                self.device.type, dtype=dtype, enabled=dtype is not None, cache_enabled=False
            )

        with autocast():
            batch = self.regularizer.transform(self.model, batch, self.task, self.generator)
            terms = iter(self.regularizer.losses(self.model, batch, self.task, self.generator))
        try:
            while True:
                with autocast():
                    loss = next(terms, None)
                if loss is None:
                    return
                yield loss
        finally:
            if isinstance(terms, Generator):
                terms.close()

    def _check_finite(self, loss: Tensor) -> None:
        # On CUDA reading a value waits for the device, so only every few steps; a sum with NaN stays NaN.
        loss = loss.detach()
        if self.device.type == "cuda":
            if self.step % _CUDA_CHECK_EVERY:
                return
            loss = self.loss_sum + loss
        if not torch.isfinite(loss):
            raise NonFiniteLoss(
                f"The loss became {float(loss)} at step {self.step + 1} of {self.total_steps} "
                f"(learning rate {self.optimizer.param_groups[0]['lr']:g}). "
                f"A smaller lr, warmup or clip_norm may help."
            )

    def _end_epoch(self) -> None:
        self.meter.synchronize()
        steps = self.step_in_epoch
        train_loss = float(self.loss_sum) / steps
        if not math.isfinite(train_loss):
            raise NonFiniteLoss(f"The loss became {train_loss} in epoch {self.epoch + 1}.")
        self.epoch += 1
        self.step_in_epoch = 0
        self.loss_sum.zero_()
        measure = self.finished or self.epoch % self.recipe.eval_every == 0
        measured = self._evaluate() if measure else {}
        record = EpochRecord(
            epoch=self.epoch,
            step=self.step,
            train_loss=train_loss,
            lr=float(self.optimizer.param_groups[0]["lr"]),
            seconds=self.meter.seconds,
            val=measured.get("val", {}),
            test=measured.get("test", {}),
            diagnostics=dict(self.regularizer.diagnostics()),
        )
        self.history.append(record)
        self.observer.epoch_ended(record)

    def _evaluate(self) -> Mapping[Split, Mapping[str, float]]:
        model = self.regularizer.evaluated(self.model)
        return self.task.evaluate_splits(model, ("val", "test"), device=self.device)

    # ---- checkpoint ----------------------------------------------------------------------------------------

    def _description(self) -> dict[str, Any]:
        return {
            "task": str(self.task.settings),
            "model": _shapes(self.model),
            "regularizer": self.regularizer.extra_repr(),
            "recipe": repr(self.recipe),
            "seed": self.seed,
        }

    def _state(self) -> dict[str, Any]:
        return {
            "description": self._description(),
            "model": self.model.state_dict(),
            "regularizer": self.regularizer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": {
                "regularizer": self.generator.get_state(),
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            },
            "position": {"step": self.step, "epoch": self.epoch, "step_in_epoch": self.step_in_epoch},
            "loss_sum": self.loss_sum,
            "history": [asdict(record) for record in self.history],
            "cost": self.meter.state_dict(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        missing = sorted(self._state().keys() - state.keys())
        if missing:
            raise UserError(
                f"The checkpoint {self.checkpoint} lacks {missing[0]!r}. "
                f"Delete it to start this training again."
            )
        for key, value in self._description().items():
            if state["description"].get(key) != value:
                raise UserError(
                    f"The checkpoint {self.checkpoint} belongs to another training: its {key} is "
                    f"{state['description'].get(key)!r}, not {value!r}. Use another file or delete it."
                )
        self.model.load_state_dict(state["model"])
        self.regularizer.load_state_dict(state["regularizer"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.generator.set_state(state["rng"]["regularizer"].cpu())
        torch.set_rng_state(state["rng"]["cpu"].cpu())
        if state["rng"]["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["rng"]["cuda"].cpu(), self.device)
        for name, value in state["position"].items():
            setattr(self, name, value)
        self.loss_sum.copy_(state["loss_sum"])
        self.history = [EpochRecord(**record) for record in state["history"]]
        self.meter.load_state_dict(state["cost"])


def _shapes(model: nn.Module) -> str:
    """Return a short text that tells models of different structure apart."""
    shapes = [(name, tuple(value.shape), str(value.dtype)) for name, value in model.state_dict().items()]
    return f"{type(model).__name__} {hashlib.sha256(repr(shapes).encode()).hexdigest()[:12]}"
