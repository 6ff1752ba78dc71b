"""Each rule of the kit catches what breaks it: small regularizers and tasks with one fault each."""

import random
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from regathlon_core import (
    Batch,
    FeaturePoint,
    FeatureRegularizer,
    Regularizer,
    RegularizerSettings,
    Stage,
    View,
)
from regathlon_core.metrics import Metrics
from regathlon_core.testing import ToyImages, run_check, task_checks
from regathlon_core.testing.toys import ToyImagesSettings


@dataclass(frozen=True)
class NoiseSettings(RegularizerSettings):
    """Noise on features or inputs."""

    name: ClassVar[str] = "noise"
    summary: ClassVar[str] = "noise"
    implementation: ClassVar[str] = "tests:Noise"
    stage: ClassVar[Stage] = Stage.FEATURE
    zero: ClassVar[Mapping[str, Any] | None] = {"std": 0.0}
    kind: ClassVar[type[Regularizer[Any]]]
    std: float = 0.5

    @classmethod
    def load(cls) -> Any:
        return cls.kind


class Noise(FeatureRegularizer[NoiseSettings]):
    """Sound."""

    Settings = NoiseSettings

    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        noise = torch.randn(x.shape, generator=generator)
        return (x + self.settings.std * noise).to(x.dtype) if self.settings.std else x


class InputNoise(Regularizer[NoiseSettings]):
    """Sound."""

    Settings = NoiseSettings

    def transform(self, model: nn.Module, batch: Batch, task: Any, generator: torch.Generator) -> Batch:
        noise = torch.randn(batch.inputs.shape, generator=generator).to(batch.inputs.dtype)
        return batch.replace(inputs=batch.inputs + self.settings.std * noise) if self.settings.std else batch


def declared(regularizer: type[Regularizer[Any]], **attributes: Any) -> RegularizerSettings:
    """Return settings that build this class."""
    stage = Stage.INPUT if issubclass(regularizer, InputNoise) else Stage.FEATURE
    return type(
        "Declared", (NoiseSettings,), {"kind": regularizer, "stage": stage, "__doc__": "x", **attributes}
    )()


RULES = [
    "settings_are_plain",
    "eval_is_identity",
    "zero_strength_is_identity",
    "it_acts",
    "model_stays_itself",
    "detach_is_harmless",
    "an_exception_leaves_the_plain_model",
    "only_full_passes_move_buffers",
    "resumes_to_the_bit",
    "draws_from_its_generator_alone",
    "state_is_whole",
    "inputs_stay_as_they_are",
    "a_batch_of_one_works",
    "odd_shapes_work",
    "half_precision_works",
    "gradients_reach_every_parameter",
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("regularizer", [Noise, InputNoise])
def test_the_sound_ones_pass(rule: str, regularizer: type[Regularizer[Any]]) -> None:
    run_check(rule, declared(regularizer), ToyImages())


MUTANTS: list[Any] = []


def breaks(rule: str, message: str) -> Any:
    """Register a class as a mutant that breaks a rule with a message."""

    def register(mutant: type[Regularizer[Any]]) -> type[Regularizer[Any]]:
        MUTANTS.append(pytest.param(rule, message, mutant, id=f"{rule}-{mutant.__name__}"))
        return mutant

    return register


@breaks("settings_are_plain", "is built with other settings")
class Forgetful(Noise):
    def __init__(self, settings: Any) -> None:
        super().__init__(type(settings)(std=0.1))


@breaks("eval_is_identity", "does not return its argument itself")
class CopiesInEval(Noise):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.training else x.clone()


@breaks("eval_is_identity", "computes something else")
class ActsInEval(Noise):
    def _hook(self, point: FeaturePoint) -> Any:
        return lambda module, inputs, output: output * 1.01


@breaks("eval_is_identity", "does not return the features of block1 themselves")
class AddsZeroInEval(Noise):
    def _hook(self, point: FeaturePoint) -> Any:
        return lambda module, inputs, output: output.clone()


@breaks("eval_is_identity", "calls transform")
class TransformsInEval(InputNoise):
    def attach(self, model: nn.Module, task: Any = None) -> None:
        self.handle = model.register_forward_pre_hook(lambda *_: self.transform(None, None, None, None))  # type: ignore[arg-type]

    def transform(self, model: Any, batch: Any, task: Any, generator: Any) -> Batch:
        return batch

    def detach(self) -> None:
        self.handle.remove()


@breaks("zero_strength_is_identity", "does not train as the plain model does")
class NeverZero(Noise):
    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        return super().act(x, generator, place) * (1 + 1e-6)


@breaks("it_acts", "changes nothing")
class Idle(Noise):
    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        return x


@breaks("model_stays_itself", "_forward_hooks was 0 and is 1")
class LeavesHooks(Noise):
    def detach(self) -> None:
        self._hooks.clear()


@breaks("model_stays_itself", "state-dict keys")
class AddsBuffers(Noise):
    def attach(self, model: nn.Module, task: Any = None) -> None:
        super().attach(model, task)
        model.register_buffer("extra", torch.zeros(1))


@breaks("model_stays_itself", "changes the model's modules")
class AddsModules(Noise):
    def attach(self, model: nn.Module, task: Any = None) -> None:
        super().attach(model, task)
        model.add_module("extra", nn.Identity())


@breaks("model_stays_itself", "counts the model's parameter")
class OwnsTheModel(Noise):
    def attach(self, model: nn.Module, task: Any = None) -> None:
        super().attach(model, task)
        self.model = model


@breaks("model_stays_itself", "replaces the model's parameter head.weight")
class ReplacesParameters(Noise):
    def attach(self, model: nn.Module, task: Any = None) -> None:
        super().attach(model, task)
        model.head.weight = nn.Parameter(model.head.weight.detach().clone())  # type: ignore[union-attr]


@breaks("model_stays_itself", "momentum was 0.1 and is 0.0")
class ChangesNumbers(Noise):
    def attach(self, model: nn.Module, task: Any = None) -> None:
        super().attach(model, task)
        model.block1[1].momentum = 0.0  # type: ignore[union-attr, index]


@breaks("model_stays_itself", "members was")
class PatchesForward(Noise):
    def attach(self, model: nn.Module, task: Any = None) -> None:
        super().attach(model, task)
        model.forward = model.forward  # type: ignore[method-assign]


@breaks("detach_is_harmless", "no attribute 'handle'")
class DetachesOnce(InputNoise):
    def attach(self, model: nn.Module, task: Any = None) -> None:
        self.handle = model.register_forward_pre_hook(lambda *_: None)

    def detach(self) -> None:
        self.handle.remove()
        del self.handle


@breaks("an_exception_leaves_the_plain_model", "momentum was 0.1 and is 0.0")
class RestoresOnlyWhenAllIsWell(InputNoise):
    def losses(self, model: Any, batch: Batch, task: Any, generator: torch.Generator) -> Iterator[Tensor]:
        norm = model.block1[1]
        kept, norm.momentum = norm.momentum, 0.0
        yield task.loss(model, batch)
        norm.momentum = kept


@breaks("only_full_passes_move_buffers", "another number of full passes")
class PassesTwice(InputNoise):
    def losses(self, model: Any, batch: Batch, task: Any, generator: torch.Generator) -> Iterator[Tensor]:
        yield task.loss(model, batch)
        yield task.loss(model, batch)


@breaks("only_full_passes_move_buffers", r"transform\(\) moves the model's buffers")
class LooksInTransform(InputNoise):
    def transform(self, model: nn.Module, batch: Batch, task: Any, generator: torch.Generator) -> Batch:
        task.loss(model, batch)
        return super().transform(model, batch, task, generator)


@breaks("only_full_passes_move_buffers", "otherwise than the plain pass")
class TrainsOnOtherInputs(InputNoise):
    def losses(self, model: Any, batch: Batch, task: Any, generator: torch.Generator) -> Iterator[Tensor]:
        yield task.loss(model, batch.replace(inputs=batch.inputs * 2))


class Counting(InputNoise):
    """Keeps a counter outside of its state."""

    count = 0

    def transform(self, model: nn.Module, batch: Batch, task: Any, generator: torch.Generator) -> Batch:
        self.count += 1
        return batch.replace(inputs=batch.inputs * self.count)


breaks("resumes_to_the_bit", "ends with other weights")(Counting)
breaks("state_is_whole", "keeps state outside")(Counting)


@breaks("resumes_to_the_bit", "ends with other state")
class ForgetsABuffer(InputNoise):
    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.register_buffer("seen", torch.zeros(()))

    def after_step(self, progress: float) -> None:
        self.seen += 1.0

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return None


@breaks("state_is_whole", "cannot pickle")
class HoldsALock(InputNoise):
    def after_step(self, progress: float) -> None:
        self.lock = threading.Lock()


@breaks("draws_from_its_generator_alone", "torch was drawn from")
class DrawsFromTorch(Noise):
    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        return super().act(x, None, place)


@breaks("draws_from_its_generator_alone", "numpy was drawn from")
class DrawsFromNumpy(InputNoise):
    def after_step(self, progress: float) -> None:
        np.random.rand()  # noqa: NPY002


@breaks("draws_from_its_generator_alone", "random was drawn from")
class DrawsFromRandom(InputNoise):
    def after_step(self, progress: float) -> None:
        random.random()


@breaks("draws_from_its_generator_alone", "torch was drawn from")
class SeedsTorch(InputNoise):
    def after_step(self, progress: float) -> None:
        torch.manual_seed(0)


@breaks("draws_from_its_generator_alone", "something else than its generator")
class DrawsFreshEntropy(InputNoise):
    def transform(self, model: nn.Module, batch: Batch, task: Any, generator: torch.Generator) -> Batch:
        fresh = torch.Generator()
        fresh.seed()
        return super().transform(model, batch, task, fresh)


@breaks("inputs_stay_as_they_are", "changes the batch in place")
class ChangesInputs(InputNoise):
    def transform(self, model: nn.Module, batch: Batch, task: Any, generator: torch.Generator) -> Batch:
        batch.inputs.mul_(0.5)
        return batch


@breaks("inputs_stay_as_they_are", "changes the batch")
class ReplacesFields(InputNoise):
    def transform(self, model: nn.Module, batch: Batch, task: Any, generator: torch.Generator) -> Batch:
        object.__setattr__(batch, "smoothing", 0.5)
        return batch


@breaks("inputs_stay_as_they_are", "changes features")
class ChangesFeatures(Noise):
    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        return x.mul_(0.5)


@breaks("a_batch_of_one_works", "yielded nan")
class NeedsTwo(InputNoise):
    def transform(self, model: nn.Module, batch: Batch, task: Any, generator: torch.Generator) -> Batch:
        return batch.replace(inputs=batch.inputs / (len(batch.inputs) - 1) * 0)


@breaks("odd_shapes_work", r"turns \(1, 16, 1, 1\) into \(1, 16, 2, 2\)")
class PadsToEven(Noise):
    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        return nn.functional.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))


@breaks("odd_shapes_work", "non-finite values")
class NormalisesByTheMap(Noise):
    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        return x * (x.shape[-1] * x.shape[-2]) / torch.tensor(float(x.shape[-1] * x.shape[-2] - 1))


@breaks("odd_shapes_work", "yielded nan")
class CutsAQuarter(InputNoise):
    def transform(self, model: nn.Module, batch: Batch, task: Any, generator: torch.Generator) -> Batch:
        share = torch.tensor(float(batch.inputs.shape[-1] % 2 == 0))
        return batch.replace(inputs=batch.inputs * (share / share))


@breaks("half_precision_works", r"turns torch.bfloat16 features into torch.float32")
class WidensFeatures(Noise):
    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        return x.float()


@breaks("half_precision_works", r"turns bfloat16 inputs into torch.float32")
class WidensInputs(InputNoise):
    def transform(self, model: nn.Module, batch: Batch, task: Any, generator: torch.Generator) -> Batch:
        return batch.replace(inputs=batch.inputs.float())


@breaks("half_precision_works", "non-finite")
class OverflowsInHalf(Noise):
    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        return x * 1e5 / 1e5


@breaks("gradients_reach_every_parameter", "no gradient reaches the model's block1.0.weight")
class CutsTheGraph(Noise):
    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        return x.detach()


@breaks("gradients_reach_every_parameter", "no gradient reaches its own idle")
class HasAnIdleParameter(Noise):
    def prepare(self, points: Any) -> None:
        self.idle = nn.Parameter(torch.zeros(1))


@breaks("gradients_reach_every_parameter", "no loss term")
class YieldsNothing(InputNoise):
    def losses(self, model: Any, batch: Batch, task: Any, generator: torch.Generator) -> Iterator[Tensor]:
        yield from ()


@breaks("gradients_reach_every_parameter", "loss terms are scalars")
class YieldsVectors(InputNoise):
    def losses(self, model: Any, batch: Batch, task: Any, generator: torch.Generator) -> Iterator[Tensor]:
        yield task.loss(model, batch)[None]


@breaks("gradients_reach_every_parameter", "without a gradient")
class YieldsConstants(InputNoise):
    def losses(self, model: Any, batch: Batch, task: Any, generator: torch.Generator) -> Iterator[Tensor]:
        yield task.loss(model, batch).detach()


@pytest.mark.parametrize(("rule", "message", "mutant"), MUTANTS)
def test_a_mutant_is_caught(rule: str, message: str, mutant: type[Regularizer[Any]]) -> None:
    with pytest.raises((AssertionError, TypeError, AttributeError), match=message):
        run_check(rule, declared(mutant), ToyImages())


def test_every_rule_has_a_mutant() -> None:
    assert {mutant.values[0] for mutant in MUTANTS} == set(RULES)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"summary": "two\nlines"}, "more than one line"),
        ({"summary": None}, "has no summary"),
        ({"version": "1"}, "not an integer"),
        ({"__doc__": ""}, "has no docstring"),
        ({"needs": frozenset({"magic"})}, "no capability"),
        ({"zero": {"sdt": 0.0}}, "has no setting 'sdt'"),
        ({"stage": 0}, "has the stage 0"),
    ],
)
def test_a_strange_declaration_is_caught(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        run_check("settings_are_plain", declared(Noise, **attributes), ToyImages())


def test_strange_settings_are_caught() -> None:
    @dataclass(frozen=True)
    class Settings(NoiseSettings):
        """Strange."""

        kind: ClassVar[type[Regularizer[Any]]] = Noise
        extra: Any = "a"

    for extra, message in (
        (("\"',",), "does not read back"),
        (((1,),), "neither a scalar nor"),
        ({}, "unhashable"),
    ):
        with pytest.raises((AssertionError, TypeError), match=message):
            run_check("settings_are_plain", Settings(extra=extra), ToyImages())

    @dataclass(frozen=True)
    class Needy(NoiseSettings):
        """No default."""

        kind: ClassVar[type[Regularizer[Any]]] = Noise
        extra: int = field(kw_only=True)

        def __init__(self) -> None:
            object.__setattr__(self, "std", 0.5)
            object.__setattr__(self, "extra", 1)

    with pytest.raises(AssertionError, match="extra has no default"):
        run_check("settings_are_plain", Needy(), ToyImages())


# ---- tasks -------------------------------------------------------------------------------------------------

TASK_MUTANTS: list[Any] = []


def misleads(rule: str, message: str, **attributes: Any) -> Any:
    """Register a task that breaks a rule; attributes change its declaration."""

    def register(mutant: type[ToyImages]) -> type[ToyImages]:
        settings = type("Declared", (ToyImagesSettings,), {"__doc__": "x", **attributes})
        TASK_MUTANTS.append(pytest.param(rule, message, mutant, settings, id=f"{rule}-{mutant.__name__}"))
        return mutant

    return register


@misleads("declaration_is_plain", "named <area>/<data>", name="toy")
class Nameless(ToyImages):
    pass


@misleads("declaration_is_plain", "has no model", models=())
class Modelless(ToyImages):
    pass


@misleads("provides_what_it_says", "offers views but", provides=ToyImagesSettings.provides - {"views"})
class SaysLess(ToyImages):
    pass


@misleads("provides_what_it_says", "go together", provides=ToyImagesSettings.provides | {"domains"})
class SaysMore(ToyImages):
    pass


@misleads("provides_what_it_says", "int64, not torch.int32")
class ShortLabels(ToyImages):
    def batch(self, *args: Any) -> Batch:
        batch = super().batch(*args)
        return batch.replace(targets=batch.targets.int())


@misleads("provides_what_it_says", "one label per sample")
class OneHot(ToyImages):
    def batch(self, *args: Any) -> Batch:
        batch = super().batch(*args)
        return batch.replace(targets=nn.functional.one_hot(batch.targets, 3))


@misleads("provides_what_it_says", "have 1 channels, not 3")
class WrongChannels(ToyImages):
    in_channels = 3  # type: ignore[assignment]


@misleads("batches_are_pure", "depends on the batch it is in")
class NormalisesByBatch(ToyImages):
    def batch(self, *args: Any) -> Batch:
        batch = super().batch(*args)
        return batch.replace(inputs=batch.inputs - batch.inputs.mean())


@misleads("batches_are_pure", "depends on the batch it is in")
class AugmentsByPosition(ToyImages):
    def augment(self, inputs: Tensor, index: Tensor, draw: Any) -> Tensor:
        return super().augment(inputs, torch.arange(len(index)), draw)


@misleads("batches_are_pure", "global generator")
class AugmentsGlobally(ToyImages):
    def augment(self, inputs: Tensor, index: Tensor, draw: Any) -> Tensor:
        return inputs + torch.rand(())


@misleads("batches_are_pure", "not twice the same")
class Drifts(ToyImages):
    def augment(self, inputs: Tensor, index: Tensor, draw: Any) -> Tensor:
        self.calls = getattr(self, "calls", 0) + 1
        return inputs + self.calls


@misleads("order_covers_the_data", "never trained on")
class LeavesSomeOut(ToyImages):
    def order(self, *args: Any) -> list[Tensor]:
        return [index[index > 0] for index in super().order(*args)]


@misleads("order_covers_the_data", "global generator")
class OrdersGlobally(ToyImages):
    def order(self, epoch: int, seed: int, batch_size: int) -> list[Tensor]:
        return list(torch.randperm(self.size("train")).split(batch_size))


@misleads("order_covers_the_data", "every epoch has the same order")
class OrdersOnce(ToyImages):
    def order(self, epoch: int, seed: int, batch_size: int) -> list[Tensor]:
        return super().order(0, seed, batch_size)


@misleads("order_covers_the_data", "every seed has the same order")
class IgnoresTheSeed(ToyImages):
    def order(self, epoch: int, seed: int, batch_size: int) -> list[Tensor]:
        return super().order(epoch, 0, batch_size)


@misleads("order_covers_the_data", "does not take each sample of val once")
class DropsTheLast(ToyImages):
    def evaluation_order(self, split: Any, batch_size: int) -> list[Tensor]:
        order = super().evaluation_order(split, batch_size)
        return order if split == "train" else [index for index in order if len(index) == batch_size]


@misleads("labels_are_classes", "labels from 1 to 3")
class CountsFromOne(ToyImages):
    def batch(self, *args: Any) -> Batch:
        batch = super().batch(*args)
        return batch.replace(targets=batch.targets + 1)


@misleads("models_train_and_evaluate", "does not report miou", metric="miou")
class ReportsAnother(ToyImages):
    pass


@misleads("models_train_and_evaluate", "changes the model")
class EvaluatesInTraining(ToyImages):
    def evaluate(self, model: nn.Module, *args: Any, **kwargs: Any) -> Mapping[str, float]:
        model.train()
        self.loss(model, self.batch("train", torch.arange(4)))
        return super().evaluate(model, *args, **kwargs)


@misleads("models_train_and_evaluate", "changes the model's flags")
class StaysInEval(ToyImages):
    def evaluate(self, model: nn.Module, *args: Any, **kwargs: Any) -> Mapping[str, float]:
        return super().evaluate(model.eval(), *args, **kwargs)


class BatchMeans(Metrics):
    """Averages batches, however large they are."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def update(self, outputs: Any, batch: Batch) -> None:
        self.found.append(float((outputs.argmax(1) == batch.targets).float().mean()) * len(self.found))

    def compute(self) -> Mapping[str, float]:
        return {"accuracy": sum(self.found) / len(self.found)}


@misleads("evaluation_counts_samples", "in batches of 7")
class AveragesBatches(ToyImages):
    def metrics(self) -> Metrics:
        return BatchMeans()


@misleads("features_are_there", "has 8 channels, not 9")
class MiscountsChannels(ToyImages):
    def features(self, model: nn.Module) -> list[FeaturePoint]:
        return [FeaturePoint("block1", channels=9)]


@misleads("features_are_there", "not channels_last")
class MistakesTheLayout(ToyImages):
    def features(self, model: nn.Module) -> list[FeaturePoint]:
        return [FeaturePoint("block1", channels=10, layout="channels_last")]


@misleads("features_are_there", "has no attribute|not an attribute")
class NamesNothing(ToyImages):
    def features(self, model: nn.Module) -> list[FeaturePoint]:
        return [FeaturePoint("block9", channels=8)]


@misleads("features_are_there", "no default")
class HasNoDefault(ToyImages):
    def features(self, model: nn.Module) -> list[FeaturePoint]:
        return [FeaturePoint("block1", channels=8, default=False)]


@misleads("views_keep_labels", "ends after 2")
class RunsOutOfViews(ToyImages):
    def views(self, batch: Batch, generator: torch.Generator, kinds: Any = ()) -> Iterator[View]:
        yield from (View(batch), View(batch))


@misleads("views_keep_labels", "global generator")
class ViewsGlobally(ToyImages):
    def views(self, batch: Batch, generator: torch.Generator, kinds: Any = ()) -> Iterator[View]:
        self.view_kinds(kinds)
        while True:
            yield View(batch.replace(inputs=batch.inputs + torch.rand(())))


@misleads("views_keep_labels", "other labels")
class ViewsChangeLabels(ToyImages):
    def views(self, batch: Batch, generator: torch.Generator, kinds: Any = ()) -> Iterator[View]:
        for view in super().views(batch, generator, kinds):
            yield View(view.batch.replace(targets=view.batch.targets * 0))


@misleads("views_keep_labels", "forgets mixed labels")
class ViewsUnmix(ToyImages):
    def views(self, batch: Batch, generator: torch.Generator, kinds: Any = ()) -> Iterator[View]:
        for view in super().views(batch, generator, kinds):
            yield View(view.batch.replace(mixed=None))


@misleads("views_keep_labels", "no view differs")
class ViewsAreTheSame(ToyImages):
    def views(self, batch: Batch, generator: torch.Generator, kinds: Any = ()) -> Iterator[View]:
        self.view_kinds(kinds)
        while True:
            yield View(batch)


@misleads("views_keep_labels", "takes a kind of view")
class AcceptsAnyKind(ToyImages):
    def views(self, batch: Batch, generator: torch.Generator, kinds: Any = ()) -> Iterator[View]:
        return super().views(batch, generator)


@misleads("views_keep_labels", "aligned outputs are")
class MisalignsViews(ToyImages):
    def views(self, batch: Batch, generator: torch.Generator, kinds: Any = ()) -> Iterator[View]:
        for view in super().views(batch, generator, kinds):
            yield View(view.batch, align=lambda outputs: outputs[:1])


@misleads("occlusion_occludes", "in place")
class OccludesInPlace(ToyImages):
    def occlude(self, batch: Batch, where: Tensor) -> Batch:
        batch.inputs.masked_fill_(where[:, None], 0.0)
        return batch


@misleads("occlusion_occludes", "that it should not")
class OccludesRows(ToyImages):
    def occlude(self, batch: Batch, where: Tensor) -> Batch:
        return super().occlude(batch, where.any(dim=1, keepdim=True).expand_as(where))


@misleads("occlusion_occludes", "changes nothing")
class OccludesNothing(ToyImages):
    def occlude(self, batch: Batch, where: Tensor) -> Batch:
        return batch


@misleads("soft_loss_compares", "sends a gradient to its reference")
class TeachesTheTeacher(ToyImages):
    def soft_loss(self, outputs: Any, reference: Any) -> Tensor:
        return (outputs - reference).square().mean()


@misleads("soft_loss_compares", "with themselves")
class IsNeverZero(ToyImages):
    def soft_loss(self, outputs: Any, reference: Any) -> Tensor:
        return nn.functional.cross_entropy(outputs, reference.detach().softmax(1))


@pytest.mark.parametrize(("rule", "message", "mutant", "settings"), TASK_MUTANTS)
def test_a_mutant_task_is_caught(rule: str, message: str, mutant: Any, settings: Any) -> None:
    (check,) = [check for check in task_checks(mutant(settings())) if check.rule.__name__ == rule]
    with pytest.raises((AssertionError, AttributeError), match=message):
        check()


def test_every_rule_of_tasks_has_a_mutant() -> None:
    rules = {check.rule.__name__ for check in task_checks(ToyImages())}
    assert {mutant.values[0] for mutant in TASK_MUTANTS} == rules
