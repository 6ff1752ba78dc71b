"""Attaching, composing and feature points, apart from any method."""

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from regathlon_core import (
    Batch,
    Compose,
    FeaturePoint,
    FeatureRegularizer,
    NoRegularizer,
    NoRegularizerSettings,
    PassRole,
    Regularizer,
    RegularizerSettings,
    Stage,
    UserError,
    build_regularizer,
    run_as,
    stream,
)
from regathlon_core.features import on_channels_first, points_by_name, select_points
from regathlon_core.testing import ToyImages, ToyPoints

TASK = ToyImages()


@dataclass(frozen=True)
class DoublingSettings(RegularizerSettings):
    """Doubles features."""

    name: ClassVar[str] = "doubling"
    summary: ClassVar[str] = "doubles features"
    implementation: ClassVar[str] = "tests:Doubling"
    stage: ClassVar[Stage] = Stage.FEATURE
    where: tuple[str, ...] = ()


class Doubling(FeatureRegularizer[DoublingSettings]):
    """Doubles features, and notes where."""

    Settings = DoublingSettings

    def __init__(self, settings: DoublingSettings | None = None, /, **keywords: Any) -> None:
        super().__init__(settings, **keywords)
        self.seen: list[tuple[str, tuple[int, ...]]] = []
        self.generators: list[torch.Generator | None] = []

    def schedule(self, progress: float) -> float:
        return progress

    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        self.seen.append((place, tuple(x.shape)))
        self.generators.append(generator)
        return 2 * x


def test_a_layer_of_ones_own_acts_in_training_at_full_strength() -> None:
    layer, x = Doubling(), torch.ones(2, 3, 4, 4)
    assert torch.equal(layer(x), 2 * x)
    assert float(layer.strength) == 1.0
    assert layer.generators == [None]
    assert layer.eval()(x) is x
    assert str(layer) == "Doubling(doubling)"


def test_attached_it_acts_at_the_default_points_with_the_steps_generator() -> None:
    model, doubling, generator = TASK.model(0), Doubling(), stream(0, "x")
    doubling.attach(model, TASK)
    batch = TASK.batch("train", torch.arange(4))
    assert doubling.transform(model, batch, TASK, generator) is batch
    TASK.predict(model, batch)
    assert doubling.seen == [("block1", (4, 8, 12, 10)), ("block2", (4, 16, 6, 5))]
    assert doubling.generators == [generator, generator]
    doubling.detach()
    TASK.predict(model, batch)
    assert len(doubling.seen) == 2


def test_where_selects_points_by_pattern_and_not_only_default_ones() -> None:
    task = ToyPoints()
    model, doubling = task.model(0), Doubling(where=("cl*",))
    doubling.attach(model, task)
    task.predict(model, task.batch("train", torch.arange(4)))
    assert doubling.seen == [("cloud", (4, 16))]
    points = task.features(model)
    assert [point.module for point in select_points(points, ())] == ["block1", "block2"]
    assert [point.module for point in select_points(points, ("*1", "block*"))] == ["block1", "block2"]


def test_without_a_task_any_submodule_can_be_named() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    doubling = Doubling(where=("1",))
    doubling.attach(model)
    x = torch.ones(5, 2)
    out = model(x)
    doubling.detach()
    assert torch.equal(out, 2 * model(x))
    assert [point.module for point in points_by_name(model, ("*",))] == ["0", "1"]


@pytest.mark.parametrize(
    ("where", "with_task", "message"),
    [
        (("block3",), True, "no feature point 'block3'. Did you mean 'block2' or 'block1'?"),
        (("zzz*",), True, "no feature point 'zzz*'"),
        ((), False, "Without a task, name the submodules"),
    ],
)
def test_a_place_that_there_is_not_is_refused(where: tuple[str, ...], with_task: bool, message: str) -> None:
    model = TASK.model(0)
    with pytest.raises(UserError, match=re.escape(message)):
        Doubling(where=where).attach(model, TASK if with_task else None)
    assert not any(module._forward_hooks for module in model.modules())


def test_acting_nowhere_is_refused() -> None:
    class NoDefaults(ToyImages):
        def features(self, model: nn.Module) -> list[FeaturePoint]:
            return [FeaturePoint("block1", 8, default=False)]

    with pytest.raises(UserError, match="would act nowhere"):
        Doubling().attach(TASK.model(0), NoDefaults())


def test_attaching_twice_is_refused() -> None:
    doubling = Doubling()
    doubling.attach(TASK.model(0), TASK)
    with pytest.raises(UserError, match=r"attached to a model already; detach\(\) it first"):
        doubling.attach(TASK.model(0), TASK)


@pytest.mark.parametrize("role", PassRole)
def test_it_is_the_identity_in_probe_and_attribution_passes(role: PassRole) -> None:
    model, doubling = TASK.model(0), Doubling()
    doubling.attach(model, TASK)
    with run_as(model, role):
        model(torch.zeros(2, 1, 12, 10))
    assert bool(doubling.seen) == (role in (PassRole.FULL, PassRole.SUB))


def test_schedules_start_at_attach_and_move_after_steps() -> None:
    doubling = Doubling()
    doubling.attach(TASK.model(0), TASK)
    assert float(doubling.strength) == 0.0
    doubling.after_step(0.25)
    assert float(doubling.strength) == 0.25
    assert set(doubling.state_dict()) == {"strength"}


@pytest.mark.parametrize(
    ("layout", "shape", "seen"),
    [
        ("channels_first", (2, 3, 4, 5), (2, 3, 4, 5)),
        ("channels_last", (2, 7, 3), (2, 3, 7)),
        ("nodes", (7, 3), (1, 3, 7)),
    ],
)
def test_every_layout_is_acted_on_with_channels_first(layout: Any, shape: Any, seen: Any) -> None:
    x = torch.randn(shape, generator=stream(0, "layout"))
    scale = torch.arange(1.0, 4.0)
    shapes = []

    def act(y: Tensor, present: Tensor | None) -> Tensor:
        assert present is None
        shapes.append(tuple(y.shape))
        return y * scale.reshape(1, 3, *[1] * (y.ndim - 2))

    axis = 1 if layout == "channels_first" else -1
    out = on_channels_first(x, layout, act)
    assert torch.equal(out, (x.movedim(axis, -1) * scale).movedim(-1, axis))
    assert shapes == [seen]
    assert on_channels_first(x, layout, lambda y, present: y) is x


def test_graphs_of_several_sizes_are_samples_filled_up_to_the_largest() -> None:
    graph_of_node = torch.tensor([0, 0, 0, 1, 2, 2])
    x = torch.arange(1.0, 13.0).reshape(6, 2)

    def act(y: Tensor, present: Tensor | None) -> Tensor:
        assert y.shape == (3, 2, 3)
        assert present is not None
        assert present.tolist() == [[True, True, True], [True, False, False], [True, True, False]]
        assert not bool(y.movedim(1, 2)[~present].any())
        return y * torch.tensor([1.0, 10.0, 100.0])[:, None, None] + 5 * ~present[:, None]

    out = on_channels_first(x, "nodes", act, graph_of_node)
    assert torch.equal(out, x * torch.tensor([1.0, 1.0, 1.0, 10.0, 100.0, 100.0])[:, None])
    assert on_channels_first(x, "nodes", lambda y, present: y, graph_of_node) is x


# ---- composition -------------------------------------------------------------------------------------------


class Noted(Regularizer[Any]):
    """Notes what is called."""

    calls: ClassVar[list[str]] = []

    def __init__(self, name: str, stage: Stage, *, fails: bool = False) -> None:
        settings = type("Noted", (NoRegularizerSettings,), {"name": name, "stage": stage})()
        super().__init__(settings)
        self.fails = fails
        self.register_buffer("seen", torch.zeros(()))

    def attach(self, model: nn.Module, task: Any = None) -> None:
        self._note("attach")
        if self.fails:
            raise UserError("fails")

    def transform(self, model: nn.Module, batch: Batch, task: Any, generator: torch.Generator) -> Batch:
        self._note("transform")
        return batch

    def losses(self, model: Any, batch: Batch, task: Any, generator: torch.Generator) -> Any:
        self._note("losses")
        yield torch.tensor(float(len(self.calls)))

    def after_step(self, progress: float) -> None:
        self._note("after_step")

    def detach(self) -> None:
        self._note("detach")

    def _note(self, what: str) -> None:
        self.calls.append(f"{self.settings.name}.{what}")


@pytest.fixture
def calls() -> list[str]:
    Noted.calls.clear()
    return Noted.calls


def test_a_composition_calls_its_parts_in_the_order_of_stages(calls: list[str]) -> None:
    both = Compose([Noted("loss", Stage.LOSS), Noted("input", Stage.INPUT)])
    generator = stream(0, "x")
    batch = TASK.batch("train", torch.arange(2))
    both.attach(nn.Identity(), TASK)
    both.transform(nn.Identity(), batch, TASK, generator)
    assert len(list(both.losses(nn.Identity(), batch, TASK, generator))) == 1
    both.after_step(0.5)
    both.detach()
    assert calls == [
        *("input.attach", "loss.attach", "input.transform", "loss.transform", "loss.losses"),
        *("input.after_step", "loss.after_step", "input.detach", "loss.detach"),
    ]
    assert both.extra_repr() == "input+loss"
    assert set(both.state_dict()) == {"parts.0.seen", "parts.1.seen"}


def test_without_a_part_that_makes_losses_it_is_the_tasks_own(calls: list[str]) -> None:
    both = Compose([Noted("a", Stage.INPUT), Noted("b", Stage.LABEL)])
    model, batch = TASK.model(0), TASK.batch("train", torch.arange(4))
    (loss,) = both.losses(model, batch, TASK, stream(0, "x"))
    assert torch.equal(loss, TASK.loss(model, batch))


def test_a_part_that_cannot_attach_detaches_the_others(calls: list[str]) -> None:
    both = Compose([Noted("a", Stage.INPUT), Noted("b", Stage.LABEL, fails=True)])
    with pytest.raises(UserError, match="fails"):
        both.attach(nn.Identity(), TASK)
    assert calls == ["a.attach", "b.attach", "a.detach", "b.detach"]


def test_one_part_is_itself_and_none_is_refused() -> None:
    assert isinstance(build_regularizer([NoRegularizerSettings()]), NoRegularizer)
    with pytest.raises(UserError, match="write 'none'"):
        build_regularizer([])


def test_batches_are_replaced_and_moved() -> None:
    batch = TASK.batch("train", torch.arange(3))
    smooth = batch.replace(smoothing=0.1)
    assert (smooth.smoothing, batch.smoothing) == (0.1, 0.0)
    assert smooth.inputs is batch.inputs
    moved = batch.to("meta")
    assert (moved.inputs.device.type, moved.targets.device.type) == ("meta", "meta")
