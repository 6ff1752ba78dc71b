"""The conformance kit passes what keeps the rules: every installed regularizer, and samples of each kind."""

import unittest
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from regathlon_core import (
    Batch,
    FeatureRegularizer,
    NoRegularizerSettings,
    PassRole,
    Regularizer,
    RegularizerSettings,
    Stage,
    run_as,
)
from regathlon_core.testing import (
    TOY_TASKS,
    Check,
    ToyDomains,
    ToyImages,
    ToyTokens,
    all_regularizers,
    assert_imports_lightly,
    cases,
    conformance_checks,
    run_check,
    task_checks,
)


@dataclass(frozen=True)
class ScaledNoiseSettings(RegularizerSettings):
    """Noise on features, whose size is learnt per channel and rises over the training."""

    name: ClassVar[str] = "scaled_noise"
    summary: ClassVar[str] = "noise of learnt size"
    implementation: ClassVar[str] = "tests:ScaledNoise"
    stage: ClassVar[Stage] = Stage.FEATURE
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    zero: ClassVar[Mapping[str, Any] | None] = {"std": 0.0}
    std: float = 0.5
    where: tuple[str, ...] = ()

    @classmethod
    def load(cls) -> Any:
        return ScaledNoise


class ScaledNoise(FeatureRegularizer[ScaledNoiseSettings]):
    """A feature layer with parameters of its own, a schedule and state."""

    Settings = ScaledNoiseSettings

    def prepare(self, points: Any) -> None:
        self.scales = nn.ParameterDict(
            {point.module.replace(".", "_"): nn.Parameter(torch.rand(point.channels)) for point in points}
        )
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def schedule(self, progress: float) -> float:
        return 0.1 + 0.9 * progress

    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        std = self.settings.std * float(self.strength)
        if not std:
            return x
        self.calls += 1
        std /= float(self.calls)
        scale = self.scales[place.replace(".", "_")].reshape(1, -1, *[1] * (x.ndim - 2))
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        return (x + std * scale * noise).to(x.dtype)


@dataclass(frozen=True)
class ConsistencySettings(RegularizerSettings):
    """A second loss term: a pass on noisy inputs agrees with the full one."""

    name: ClassVar[str] = "consistency"
    summary: ClassVar[str] = "views agree with the full pass"
    implementation: ClassVar[str] = "tests:Consistency"
    stage: ClassVar[Stage] = Stage.LOSS
    needs: ClassVar[frozenset[str]] = frozenset({"views", "soft_loss"})
    zero: ClassVar[Mapping[str, Any] | None] = {"n": 0}
    n: int = 2

    @classmethod
    def load(cls) -> Any:
        return Consistency


class Consistency(Regularizer[ConsistencySettings]):
    """Several loss terms a step, by passes of another role."""

    Settings = ConsistencySettings

    def losses(
        self, model: nn.Module, batch: Batch, task: Any, generator: torch.Generator
    ) -> Iterator[Tensor]:
        outputs = task.predict(model, batch)
        yield task.criterion(outputs, batch)
        views = task.views(batch, generator)
        for _ in range(self.settings.n):
            view = next(views)
            with run_as(model, PassRole.SUB):
                own = task.predict(model, view.batch)
            yield task.soft_loss(own, view.align(outputs))


SOUND = [
    NoRegularizerSettings(),
    ScaledNoiseSettings(),
    ConsistencySettings(),
    [ScaledNoiseSettings(std=0.2), ConsistencySettings(n=1)],
]


@pytest.mark.parametrize(
    "check", [c for task in (*TOY_TASKS, ToyDomains()) for c in task_checks(task)], ids=str
)
def test_toy_tasks_keep_the_rules_of_tasks(check: Check) -> None:
    check()


@pytest.mark.parametrize("check", [c for settings in SOUND for c in conformance_checks(settings)], ids=str)
def test_sound_regularizers_keep_the_rules(check: Check) -> None:
    check()


# Those of other packages are held to the rules by their own tests: they may need what no toy task offers.
OWN = [
    settings for settings in all_regularizers().values() if settings.__module__.startswith("regathlon_core.")
]
INSTALLED = [check for settings in OWN for check in conformance_checks(settings(**settings.acting))]


@pytest.mark.parametrize("check", INSTALLED, ids=str)
def test_installed_regularizers_keep_the_rules(check: Check) -> None:
    check()


def test_declarations_of_core_import_no_torch() -> None:
    assert_imports_lightly([NoRegularizerSettings, *OWN])


def test_a_declaration_that_imports_something_heavy_is_named() -> None:
    heavy = type("Heavy", (NoRegularizerSettings,), {"__module__": "numpy.linalg"})
    with pytest.raises(AssertionError, match=r"numpy\.linalg imports numpy"):
        assert_imports_lightly([NoRegularizerSettings, heavy])


def test_a_refused_task_is_left_out_and_refusing_all_is_an_error() -> None:
    titles = {check.title for check in conformance_checks(ConsistencySettings())}
    assert titles == {f"consistency-{task.name}" for task in TOY_TASKS}

    @dataclass(frozen=True)
    class Picky(ConsistencySettings):
        needs: ClassVar[frozenset[str]] = frozenset({"domains"})

    assert {check.title for check in conformance_checks(Picky())} == {"consistency-dg/toy"}
    with pytest.raises(AssertionError, match="refuses every one"):
        conformance_checks(Picky(), [ToyImages()])
    assert "consistency" not in {settings.name for settings in cases(ToyImages())}


def test_a_check_takes_a_built_task_and_says_its_rule() -> None:
    check = conformance_checks(NoRegularizerSettings(), [ToyImages()])[1]
    assert str(check) == "eval_is_identity-none-vision/toy"
    assert "same" in (check.rule.__doc__ or "") or "argument" in (check.rule.__doc__ or "")
    check()


def test_what_says_nothing_is_skipped_with_a_reason() -> None:
    with pytest.raises(unittest.SkipTest, match="meant to do nothing"):
        run_check("it_acts", NoRegularizerSettings(), ToyTokens())
