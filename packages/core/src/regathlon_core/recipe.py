"""Recipes: optimizer, schedule, budget and precision of a trial, as plain settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from regathlon_core.errors import UserError, unknown

Optimizer = Literal["sgd", "adam", "adamw"]
Schedule = Literal["cosine", "step", "constant"]
Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Budget:
    """How long to train: exactly one of epochs, optimizer steps, seconds of training and training FLOPs.

    Schedules follow the share of the budget that is spent, whatever it is counted in. A budget of seconds
    depends on the machine, so a training under it cannot be repeated to the bit; the other three can.

    Attributes:
        epochs: Passes over the training samples.
        steps: Optimizer steps.
        seconds: Wall time of training steps; evaluation is not counted.
        flops: Floating-point operations of training steps, as torch's FlopCounterMode counts them.

    Example:
        >>> Budget(epochs=3).spent(step=15, steps_per_epoch=10), Budget(flops=1e9).spent(flops=2.5e8)
        (0.5, 0.25)
    """

    epochs: int | None = None
    steps: int | None = None
    seconds: float | None = None
    flops: float | None = None

    def __post_init__(self) -> None:
        names = list(vars(self))
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) != 1:
            raise UserError(
                f"A budget is exactly one of {', '.join(names[:-1])} and {names[-1]}; "
                f"got {' and '.join(f'{name}={value}' for name, value in given.items()) or 'none of them'}."
            )
        if self.kind in ("epochs", "steps"):
            if not (isinstance(self.amount, int) and self.amount >= 1):
                raise UserError(
                    f"A budget of {self.amount} {self.kind} cannot be trained; "
                    f"it is a whole number of at least 1."
                )
        elif not (math.isfinite(self.amount) and self.amount > 0):
            raise UserError(
                f"A budget of {self.amount} {self.kind} cannot be trained; it is a number above 0."
            )

    @property
    def kind(self) -> str:
        """What it is counted in: the name of the field that is set."""
        return next(name for name, value in vars(self).items() if value is not None)

    @property
    def amount(self) -> float:
        """How much there is of it."""
        amount: float = getattr(self, self.kind)
        return amount

    def total_steps(self, steps_per_epoch: int) -> int | None:
        """Return the number of optimizer steps where it is known beforehand: not for seconds and FLOPs.

        Args:
            steps_per_epoch: How many make an epoch.
        """
        if self.epochs is not None:
            return self.epochs * steps_per_epoch
        return self.steps

    def spent(
        self, *, step: int = 0, steps_per_epoch: int = 1, seconds: float = 0.0, flops: float = 0.0
    ) -> float:
        """Return the share that is spent: 1 at the end, above where a last step went over it.

        Args:
            step: Optimizer steps done.
            steps_per_epoch: How many make an epoch.
            seconds: Training time so far.
            flops: Operations so far.
        """
        total = self.total_steps(steps_per_epoch)
        if total is not None:
            return step / total
        return (seconds if self.kind == "seconds" else flops) / self.amount


@dataclass(frozen=True)
class Recipe:
    """Everything about optimisation that is not the regularizer's.

    Attributes:
        optimizer: ``"sgd"`` (with momentum), ``"adam"`` or ``"adamw"``.
        lr: Peak learning rate.
        momentum: Of SGD.
        nesterov: Of SGD.
        weight_decay: L2 penalty (decoupled in AdamW).
        decay_norm_and_bias: Whether weight decay also acts on one-dimensional parameters.
        schedule: ``"cosine"`` to ``min_lr``, ``"step"`` (times ``gamma`` at each milestone) or
            ``"constant"``; evaluated at every step.
        milestones: For ``"step"``: fractions of the budget, such as (0.5, 0.75).
        gamma: For ``"step"``.
        min_lr: Where the cosine ends.
        warmup: Fraction of the budget over which the rate rises linearly from zero.
        clip_norm: Largest total gradient norm, or None.
        batch_size: Samples in a step.
        budget: How long to train.
        precision: ``"fp32"``, or autocast to ``"bf16"`` or ``"fp16"`` (the latter with loss scaling).
        eval_every: Epochs between evaluations; the last epoch is always evaluated.
    """

    optimizer: Optimizer = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    decay_norm_and_bias: bool = True
    schedule: Schedule = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1
    min_lr: float = 0.0
    warmup: float = 0.0
    clip_norm: float | None = None
    batch_size: int = 128
    budget: Budget = field(default_factory=lambda: Budget(epochs=10))
    precision: Precision = "fp32"
    eval_every: int = 1

    def __post_init__(self) -> None:
        for name, choices in (("optimizer", Optimizer), ("schedule", Schedule), ("precision", Precision)):
            if getattr(self, name) not in get_args(choices):
                raise unknown(name, getattr(self, name), get_args(choices))
        for name, least in (("lr", 0.0), ("weight_decay", 0.0), ("gamma", 0.0), ("min_lr", 0.0)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= least):
                raise UserError(f"{name} must be a finite number of at least {least:g}, not {value}.")
        for name in ("batch_size", "eval_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if not 0 <= self.warmup < 1:
            raise UserError(f"warmup is a fraction of the budget in [0, 1), not {self.warmup}.")
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum must lie in [0, 1), not {self.momentum}.")
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0:
            raise UserError("Nesterov's step needs a momentum above 0; set nesterov: false or a momentum.")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise UserError(f"clip_norm must be above 0 or null, not {self.clip_norm}.")
        for milestone in self.milestones:
            if not 0 < milestone < 1:
                raise UserError(f"Milestones are fractions of the budget in (0, 1); {milestone} is not.")

    def lr_at(self, progress: float) -> float:
        """Return the learning rate at a point of the budget.

        Args:
            progress: Share of the budget that is spent, in [0, 1].

        Example:
            >>> recipe = Recipe(lr=0.1, schedule="step", milestones=(0.5, 0.75))
            >>> [round(recipe.lr_at(t), 4) for t in (0.0, 0.5, 0.8)]
            [0.1, 0.01, 0.001]
        """
        if progress < self.warmup:
            return self.lr * progress / self.warmup
        if self.schedule == "constant":
            return self.lr
        if self.schedule == "step":
            return self.lr * self.gamma ** sum(progress >= milestone for milestone in self.milestones)
        after_warmup = (progress - self.warmup) / (1 - self.warmup)
        return self.min_lr + (self.lr - self.min_lr) * (1 + math.cos(math.pi * after_warmup)) / 2
