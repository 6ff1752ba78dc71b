"""A training step against loops written by hand: gradients, schedules, precision, memory and operations."""

import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from regathlon_core import (
    Batch,
    Budget,
    DropBlock,
    NonFiniteLoss,
    PassRole,
    Recipe,
    Regularizer,
    RegularizerSettings,
    SampleDraw,
    Stage,
    UserError,
    current_role,
    fit,
    run_as,
    stream,
)
from regathlon_core.testing import ToyImages, ToyTokens
from regathlon_core.testing.toys import ToyImagesSettings
from regathlon_core.testing.trees import copied, difference

TASK = ToyImages(ToyImagesSettings(samples=48))
RECIPE = Recipe(batch_size=16, lr=0.05, budget=Budget(epochs=2))


@dataclass(frozen=True)
class TermsSettings(RegularizerSettings):
    """Loss terms from a function."""

    name: ClassVar[str] = "terms"
    summary: ClassVar[str] = "loss terms from a function"
    implementation: ClassVar[str] = "tests:Terms"
    stage: ClassVar[Stage] = Stage.LOSS


class Terms(Regularizer[TermsSettings]):
    """Yields what a function yields."""

    Settings = TermsSettings

    def __init__(self, terms: Callable[[nn.Module, Batch, Any], Iterator[Tensor]]) -> None:
        super().__init__(TermsSettings())
        self.terms = terms
        self.progress: list[float] = []

    def losses(
        self, model: nn.Module, batch: Batch, task: Any, generator: torch.Generator
    ) -> Iterator[Tensor]:
        yield from self.terms(model, batch, task)

    def after_step(self, progress: float) -> None:
        self.progress.append(progress)


def by_hand(
    recipe: Recipe, optimizer: Any, schedule: Any = None, loss: Callable[..., Tensor] | None = None
) -> dict[str, Tensor]:
    """Train as a user would write it, with torch's own optimizers and schedules."""
    model = TASK.model(0).train()
    optimizer = optimizer(model.parameters())
    scheduler = schedule(optimizer) if schedule is not None else None
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(recipe.precision)
    scaler = torch.amp.GradScaler("cpu", enabled=recipe.precision == "fp16")
    for epoch in range(recipe.budget.epochs or 0):
        for index in TASK.order(epoch, 0, recipe.batch_size):
            batch = TASK.batch("train", index, SampleDraw(0, epoch))
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
                logits = model(batch.inputs)
                value = nn.functional.cross_entropy(logits.float(), batch.targets)
                if loss is not None:
                    value = value + loss(model, batch)
            scaler.scale(value).backward()
            if recipe.clip_norm is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            scaler.step(optimizer)
            scaler.update()
            if scheduler is not None:
                scheduler.step()
    return copied(model.state_dict())


def by_engine(recipe: Recipe, regularizer: Regularizer[Any] | None = None) -> dict[str, Tensor]:
    model = TASK.model(0)
    fit(model, TASK, regularizer, recipe)
    return copied(model.state_dict())


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)


SAME_BITS = [
    (replace(RECIPE, schedule="constant"), sgd),
    (replace(RECIPE, schedule="constant", clip_norm=0.3), sgd),
    (replace(RECIPE, schedule="constant", precision="bf16"), sgd),
    (replace(RECIPE, schedule="constant", precision="fp16"), sgd),
    (replace(RECIPE, schedule="constant", precision="fp16", clip_norm=0.3), sgd),
    (
        replace(RECIPE, schedule="constant", optimizer="adam", weight_decay=0.01),
        lambda parameters: torch.optim.Adam(parameters, lr=0.05, weight_decay=0.01),
    ),
    (
        replace(RECIPE, schedule="constant", optimizer="adamw", weight_decay=0.01),
        lambda parameters: torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.01),
    ),
]


@pytest.mark.parametrize(("recipe", "optimizer"), SAME_BITS)
def test_the_plain_training_is_a_hand_written_loop_to_the_bit(recipe: Recipe, optimizer: Any) -> None:
    assert difference(by_engine(recipe), by_hand(recipe, optimizer)) is None


STEPS = 6
SCHEDULES = {
    "cosine": (
        replace(RECIPE, min_lr=0.002),
        lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS, eta_min=0.002),
    ),
    "step": (
        replace(RECIPE, schedule="step", gamma=0.2),
        lambda optimizer: lr_scheduler.MultiStepLR(optimizer, milestones=[3, 5], gamma=0.2),
    ),
    "warmup and cosine": (
        replace(RECIPE, warmup=1 / 3),
        lambda optimizer: lr_scheduler.SequentialLR(
            optimizer,
            [
                lr_scheduler.LinearLR(optimizer, start_factor=1e-12, total_iters=2),
                lr_scheduler.CosineAnnealingLR(optimizer, T_max=4),
            ],
            milestones=[2],
        ),
    ),
}


@pytest.mark.parametrize(("recipe", "schedule"), SCHEDULES.values(), ids=SCHEDULES.keys())
def test_schedules_are_those_of_torch_per_iteration(recipe: Recipe, schedule: Any) -> None:
    optimizer = sgd([nn.Parameter(torch.zeros(1))])
    scheduler = schedule(optimizer)
    for step in range(STEPS):
        assert recipe.lr_at(step / STEPS) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9, abs=1e-12)
        optimizer.step()
        scheduler.step()
    torch.testing.assert_close(by_engine(recipe), by_hand(recipe, sgd, schedule))


def test_epoch_records_have_the_rate_of_the_last_step() -> None:
    result = fit(TASK.model(0), TASK, None, RECIPE)
    assert [record.lr for record in result.history] == [RECIPE.lr_at(2 / 6), RECIPE.lr_at(5 / 6)]


def test_no_decay_on_norm_and_bias_leaves_the_vectors_alone() -> None:
    def nothing(model: nn.Module, batch: Batch, task: Any) -> Iterator[Tensor]:
        yield sum(parameter.sum() * 0 for parameter in model.parameters())  # type: ignore[misc]

    recipe = replace(
        RECIPE, decay_norm_and_bias=False, weight_decay=0.1, schedule="constant", momentum=0.0, nesterov=False
    )
    before, after = copied(TASK.model(0).state_dict()), by_engine(recipe, Terms(nothing))
    for name, value in TASK.model(0).named_parameters():
        wanted = before[name] * (1 - 0.05 * 0.1) ** STEPS if value.ndim > 1 else before[name]
        torch.testing.assert_close(after[name], wanted)


# ---- several loss terms ------------------------------------------------------------------------------------


def test_terms_one_at_a_time_give_the_gradient_of_their_sum() -> None:
    def penalty(model: nn.Module, batch: Batch) -> Tensor:
        weight: Tensor = model.head.weight  # type: ignore[assignment, union-attr]
        with run_as(model, PassRole.PROBE):
            return 0.1 * weight.square().sum() + model(batch.inputs).square().mean()

    def terms(model: nn.Module, batch: Batch, task: Any) -> Iterator[Tensor]:
        yield task.loss(model, batch)
        yield penalty(model, batch)

    recipe = replace(RECIPE, schedule="constant")
    torch.testing.assert_close(by_engine(recipe, Terms(terms)), by_hand(recipe, sgd, loss=penalty))


def test_the_train_loss_is_the_mean_of_the_sums_of_the_terms() -> None:
    def terms(model: nn.Module, batch: Batch, task: Any) -> Iterator[Tensor]:
        loss = task.loss(model, batch)
        yield loss * 0 + 2.0
        yield model.head.weight.sum() * 0 + float(len(seen))  # type: ignore[union-attr, operator]
        seen.append(0)

    seen: list[int] = []
    result = fit(TASK.model(0), TASK, Terms(terms), RECIPE)
    assert [record.train_loss for record in result.history] == [2 + (0 + 1 + 2) / 3, 2 + (3 + 4 + 5) / 3]


def test_progress_ends_at_one() -> None:
    def terms(model: nn.Module, batch: Batch, task: Any) -> Iterator[Tensor]:
        yield task.loss(model, batch)

    regularizer = Terms(terms)
    fit(TASK.model(0), TASK, regularizer, RECIPE)
    assert regularizer.progress == pytest.approx([(step + 1) / 6 for step in range(6)])


def test_one_graph_is_alive_at_a_time() -> None:
    alive: list[int] = [0]
    before_each_term: list[int] = []

    class Saved:
        """A tensor saved for backward, counted while it lives."""

        def __init__(self, value: Tensor) -> None:
            self.value = value
            alive[0] += 1

        def __del__(self) -> None:
            alive[0] -= 1

    def terms(model: nn.Module, batch: Batch, task: Any) -> Iterator[Tensor]:
        for _ in range(4):
            before_each_term.append(alive[0])
            with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.value):
                loss = task.loss(model, batch)
            assert alive[0] > 5
            yield loss

    fit(TASK.model(0), TASK, Terms(terms), RECIPE)
    assert before_each_term == [0] * (4 * 6)


# ---- what goes wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_loss_stops_the_training_and_says_where(value: float) -> None:
    def terms(model: nn.Module, batch: Batch, task: Any) -> Iterator[Tensor]:
        steps.append(0)
        yield task.loss(model, batch)
        yield model.head.weight.sum() * (value if len(steps) == 4 else 1.0)  # type: ignore[union-attr, operator]

    steps: list[int] = []
    model = TASK.model(0)
    with pytest.raises(NonFiniteLoss, match=rf"became {value}|became -?inf|became nan") as caught:
        fit(model, TASK, Terms(terms), RECIPE)
    assert "step 4 of 6 (learning rate 0.025)" in str(caught.value)
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def test_a_diverging_training_is_found() -> None:
    with pytest.raises(NonFiniteLoss, match="A smaller lr"):
        fit(TASK.model(0), TASK, None, replace(RECIPE, lr=1e30, budget=Budget(epochs=20)))


def test_a_loss_that_is_no_scalar_is_refused() -> None:
    def terms(model: nn.Module, batch: Batch, task: Any) -> Iterator[Tensor]:
        yield nn.functional.cross_entropy(model(batch.inputs), batch.targets, reduction="none")

    with pytest.raises(
        UserError, match=r"terms yielded a loss term of shape \(16,\); loss terms are scalars"
    ):
        fit(TASK.model(0), TASK, Terms(terms), RECIPE)


@pytest.mark.parametrize("where", ["losses", "backward"])
def test_an_exception_leaves_flags_role_and_hooks_as_they_were(where: str) -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Tensor:
            raise ZeroDivisionError

    class Failing(DropBlock):
        def losses(
            self, model: nn.Module, batch: Batch, task: Any, generator: torch.Generator
        ) -> Iterator[Tensor]:
            with run_as(model, PassRole.SUB):
                loss = task.loss(model, batch)
                if where == "losses":
                    raise ZeroDivisionError
                yield Broken.apply(loss)

        def detach(self) -> None:
            flags.append([norm.track_running_stats for norm in norms])
            super().detach()

    flags: list[list[bool]] = []
    model = TASK.model(0)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    with pytest.raises(ZeroDivisionError):
        fit(model, TASK, Failing(p=0.1), RECIPE)
    assert flags == [[True, True]]
    assert current_role() is PassRole.FULL
    assert not any(module._forward_hooks for module in model.modules())


def test_no_training_samples_is_said() -> None:
    class Empty(ToyImages):
        def order(self, *args: Any) -> list[Tensor]:
            return []

    with pytest.raises(UserError, match="vision/toy has no training samples"):
        fit(TASK.model(0), Empty(), None, RECIPE)


# ---- precision, randomness, cost ---------------------------------------------------------------------------


def test_a_step_that_overflows_in_fp16_is_skipped_and_the_scale_is_lowered() -> None:
    def terms(model: nn.Module, batch: Batch, task: Any) -> Iterator[Tensor]:
        weights.append(copied(dict(model.named_parameters())))
        yield task.loss(model, batch) * 300

    weights: list[dict[str, Tensor]] = []
    recipe = replace(RECIPE, precision="fp16", schedule="constant", lr=1e-6, budget=Budget(epochs=5))
    model = TASK.model(0)
    fit(model, TASK, Terms(terms), recipe)
    moved = [difference(a, b) is not None for a, b in itertools.pairwise(weights)]
    assert not moved[0]
    assert moved[-1]
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def test_the_users_generators_are_left_alone() -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    task = ToyTokens()
    fit(task.model(0), task, None, Recipe(batch_size=16, budget=Budget(steps=4)))
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])


def test_the_regularizer_draws_from_its_own_stream_of_the_seed() -> None:
    drawn: list[Tensor] = []

    class Draws(Terms):
        def transform(self, model: nn.Module, batch: Batch, task: Any, generator: torch.Generator) -> Batch:
            drawn.append(torch.rand(3, generator=generator))
            return batch

    def terms(model: nn.Module, batch: Batch, task: Any) -> Iterator[Tensor]:
        yield task.loss(model, batch)

    fit(TASK.model(0), TASK, Draws(terms), RECIPE, seed=7)
    assert torch.equal(torch.stack(drawn), torch.rand(6, 3, generator=stream(7, "regularizer")))


def test_operations_equal_a_count_by_hand() -> None:
    batch, (height, width) = 16, (12, 10)
    first = 2 * batch * height * width * 8 * 1 * 9
    second = 2 * batch * (height // 2) * (width // 2) * 16 * 8 * 9
    head = 2 * batch * 16 * 3
    # Backward costs a forward for the weights, and another for the inputs where they have a gradient.
    step = 2 * first + 3 * second + 3 * head
    cost = fit(TASK.model(0), TASK, None, RECIPE).cost
    assert cost.train_flops == 6 * step
    assert cost.steps == 6


def test_cost_is_plausible() -> None:
    cost = fit(TASK.model(0), TASK, None, replace(RECIPE, budget=Budget(epochs=5))).cost
    assert 0 < cost.step_seconds < cost.train_seconds
    assert cost.peak_memory_mb >= 0


def test_a_memory_peak_of_the_training_is_seen() -> None:
    def terms(model: nn.Module, batch: Batch, task: Any) -> Iterator[Tensor]:
        hungry = torch.ones(64 * 2**20 // 4)
        yield task.loss(model, batch) + 0 * hungry[-1]

    model = TASK.model(0)
    fit(model, TASK, None, RECIPE)
    assert fit(model, TASK, Terms(terms), RECIPE).cost.peak_memory_mb > 50
