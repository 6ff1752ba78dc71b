"""Budgets of FLOPs and seconds: equal spending, schedules fitted to it, exact resume."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from regathlon_core import (
    Batch,
    Budget,
    DropBlock,
    FitResult,
    GradAug,
    Interrupted,
    NoRegularizer,
    NoRegularizerSettings,
    Recipe,
    Regularizer,
    Task,
    UserError,
    fit,
)
from regathlon_core.engine.cost import CostMeter
from regathlon_core.testing import Ending, ToyImages

TASK = ToyImages()
FLOPS = 1e9


def train(regularizer: Regularizer[Any], budget: Budget, **options: Any) -> FitResult:
    recipe = Recipe(budget=budget, batch_size=16, eval_every=100)
    return fit(TASK.model(seed=0), TASK, regularizer, recipe, **options)


class Counting(Regularizer[NoRegularizerSettings]):
    """Trains plainly, and remembers the shares of the budget that it heard of."""

    Settings: ClassVar = NoRegularizerSettings

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[float] = []

    def after_step(self, progress: float) -> None:
        self.heard.append(progress)

    def diagnostics(self) -> dict[str, float]:
        return {"heard": float(len(self.heard))}


@pytest.mark.parametrize("regularizer", [NoRegularizer(), DropBlock(p=0.1), GradAug(n=2)], ids=repr)
def test_a_budget_of_flops_is_met_within_half_a_step(regularizer: Regularizer[Any]) -> None:
    cost = train(regularizer, Budget(flops=FLOPS)).cost
    assert abs(cost.train_flops - FLOPS) <= 0.75 * cost.train_flops / cost.steps
    assert abs(cost.train_flops / FLOPS - 1) < 0.02


def test_under_equal_flops_a_dearer_method_takes_fewer_steps() -> None:
    plain, dear = (train(method, Budget(flops=FLOPS)).cost for method in (NoRegularizer(), GradAug(n=2)))
    assert dear.steps < plain.steps
    assert plain.train_flops / plain.steps < dear.train_flops / dear.steps


def test_the_schedule_hears_the_share_that_is_spent() -> None:
    regularizer = Counting()
    result = train(regularizer, Budget(flops=FLOPS))
    heard = torch.tensor(regularizer.heard)
    assert len(heard) == result.cost.steps
    assert (heard.diff() > 0).all()
    assert heard[0] > 0
    assert heard[-1] == pytest.approx(1.0, abs=1 / result.cost.steps)
    assert result.history[-1].diagnostics == {"heard": float(len(heard))}


def test_the_flops_of_varying_steps_are_counted_one_by_one() -> None:
    meter, sampled = CostMeter(torch.device("cpu"), exact_flops=True), CostMeter(torch.device("cpu"))
    sizes = [4, 8, 16, 4] * 10
    for size in sizes:
        for each in (meter, sampled):
            with each.step():
                torch.ones(size, 8) @ torch.ones(8, 2)
    assert meter.flops == sum(2 * size * 8 * 2 for size in sizes)
    assert sampled.flops == pytest.approx(meter.flops)  # the first steps counted are two whole periods


def test_a_budget_of_seconds_ends_near_it() -> None:
    cost = train(NoRegularizer(), Budget(seconds=0.2)).cost
    assert cost.steps >= 1
    # Half of an average step is the rule; the last one may itself have been slow.
    assert cost.train_seconds > 0.2 * (1 - 0.5 / cost.steps) - 1e-9


def test_one_step_at_least() -> None:
    assert train(NoRegularizer(), Budget(flops=1.0)).cost.steps == 1
    assert train(NoRegularizer(), Budget(seconds=1e-9)).cost.steps == 1


def test_resume_under_a_budget_of_flops_is_exact(tmp_path: Path) -> None:
    whole = train(GradAug(n=2), Budget(flops=FLOPS))
    file = tmp_path / "checkpoint.pt"
    with pytest.raises(Interrupted):
        train(GradAug(n=2), Budget(flops=FLOPS), checkpoint=file, observer=Ending(stop=[20]))
    resumed = train(GradAug(n=2), Budget(flops=FLOPS), checkpoint=file)
    assert resumed.cost.steps == whole.cost.steps > 20
    assert resumed.cost.train_flops == whole.cost.train_flops
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


@pytest.mark.parametrize("budget", [{"flops": 0.0}, {"seconds": -1.0}, {"flops": float("nan")}])
def test_a_budget_is_above_zero(budget: dict[str, float]) -> None:
    with pytest.raises(UserError, match="above 0"):
        Budget(**budget)  # type: ignore[arg-type]


class Teacher(Regularizer[NoRegularizerSettings]):
    """Has metrics read from a model of its own."""

    Settings: ClassVar = NoRegularizerSettings

    def attach(self, model: nn.Module, task: Task | None = None) -> None:
        assert isinstance(task, ToyImages)
        self.teacher = task.model(seed=7)

    def losses(
        self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator
    ) -> Iterator[Tensor]:
        yield task.loss(model, batch)

    def evaluated(self, model: nn.Module) -> nn.Module:
        return self.teacher


def test_metrics_are_read_from_the_evaluated_model() -> None:
    result = train(Teacher(), Budget(steps=2))
    other = TASK.model(seed=7)
    assert result.history[-1].test == TASK.evaluate(other, "test")
    assert torch.equal(next(result.model.parameters()), next(other.parameters()))
