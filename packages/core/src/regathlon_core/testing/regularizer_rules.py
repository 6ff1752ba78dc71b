"""The rules that a regularizer keeps: each function is one, said by its docstring and called with a case."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import io
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from regathlon_core.engine import fit
from regathlon_core.errors import UserError
from regathlon_core.features import FeaturePoint, hook_point
from regathlon_core.notation import parse_one
from regathlon_core.passes import PassRole, current_role, run_as
from regathlon_core.recipe import Budget
from regathlon_core.regularizer import FeatureRegularizer, Regularizer, build_regularizer
from regathlon_core.regularizers.none.regularizer import NoRegularizer
from regathlon_core.rng import global_stream, stream
from regathlon_core.settings import CAPABILITIES, Stage
from regathlon_core.task import Batch, Task
from regathlon_core.testing.cases import Case, attached, looking, sgd, shortened, step_losses, train
from regathlon_core.testing.observers import Ending, Killed
from regathlon_core.testing.trees import copied, difference

STEPS = 4


# ---- the declaration ---------------------------------------------------------------------------------------


def settings_are_plain(case: Case) -> None:
    """Settings are frozen, hashable, scalars and tuples with defaults, and read back as they are written."""
    for settings in case.parts:
        assert_declaration(settings)
        assert isinstance(settings.stage, Stage), f"{settings.name} has the stage {settings.stage!r}"
        strange = sorted(settings.needs - CAPABILITIES.keys())
        assert not strange, f"{settings.name} needs {strange[0]!r}, which is no capability"
        for extra in (settings.zero or {}, settings.acting):
            unknown = sorted(extra.keys() - settings.settings().keys())
            assert not unknown, f"{settings.name} has no setting {unknown[0]!r}, which zero or acting sets"
        built = settings.build()
        assert isinstance(built, Regularizer), f"{settings.implementation} builds no Regularizer"
        assert built.settings == settings, f"{settings.name} is built with other settings: {built.settings}"


def assert_declaration(settings: Any) -> None:
    """Hold any declaration to being plain data (shared with the rules of tasks and models)."""
    kind = type(settings)
    for attribute in ("name", "summary", "implementation"):
        assert isinstance(getattr(kind, attribute, None), str), f"{kind.__name__} has no {attribute}"
    assert isinstance(kind.version, int), (
        f"the version of {settings.name} is {kind.version!r}, not an integer"
    )
    assert kind.__doc__, f"{kind.__name__} has no docstring"
    assert "\n" not in kind.summary, f"the summary of {settings.name} has more than one line"
    hash(settings)
    json.dumps(settings.describe())
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        parts = value if isinstance(value, tuple) else (value,)
        plain = all(part is None or isinstance(part, (bool, int, float, str)) for part in parts)
        assert plain, f"{settings.name}.{field.name} is {value!r}, neither a scalar nor a tuple of scalars"
        assert field.default is not dataclasses.MISSING, f"{settings.name}.{field.name} has no default"
        with contextlib.suppress(dataclasses.FrozenInstanceError):
            setattr(settings, field.name, value)
            raise AssertionError(f"{kind.__name__} is not frozen")
    try:
        call = parse_one(str(settings), kind="declaration")
        read = kind(**call.values(kind))
    except UserError as error:
        raise AssertionError(f"{settings} does not read back: {error}") from error
    assert (call.name, read) == (settings.name, settings), (
        f"{settings} does not read back as what it was: {read!r}"
    )


# ---- evaluation --------------------------------------------------------------------------------------------


def eval_is_identity(case: Case) -> None:
    """In eval() a feature layer returns its very argument, and the model computes what the plain one does."""
    for part in case.regularizer().modules():
        if isinstance(part, FeatureRegularizer):
            x = torch.randn(2, 3, 5, 4, generator=stream(0, "eval"))
            assert part.eval()(x) is x, f"{part} in eval() does not return its argument itself"
    model = case.model()
    batch, *later = case.batches(1 + STEPS)
    model_s_own = _outputs_of_points(case.task, model)
    regularizer = attached(case, model)
    regularized = _outputs_of_points(case.task, model)
    train(model, case.task, regularizer, later)
    plain = case.model(seed=1)
    plain.load_state_dict(model.state_dict())

    def refuse(*args: object, **kwargs: object) -> Any:
        raise AssertionError(f"an evaluation calls transform() or losses() of {case.name}")

    regularizer.transform = refuse  # type: ignore[method-assign]
    regularizer.losses = refuse  # type: ignore[method-assign]
    regularizer.eval()
    model_s_own.clear()
    regularized.clear()
    with torch.no_grad():
        found, wanted = (case.task.predict(module.eval(), batch) for module in (model, plain))
    gap = difference(found, wanted)
    assert gap is None, f"in eval() the model with {case.name} attached computes something else: {gap}"
    for (place, own), (_, seen) in zip(model_s_own, regularized, strict=True):
        assert own is seen, f"in eval() {case.name} does not return the features of {place} themselves"


def _outputs_of_points(task: Task, model: nn.Module) -> list[tuple[str, Any]]:
    """Hook the task's feature points, after the hooks that are there; return the list that outputs go to."""
    seen: list[tuple[str, Any]] = []
    if "features" in task.settings.provides:
        for point in task.features(model):
            hook_point(model, point, looking(functools.partial(_append, seen, point.name)))
    return seen


def _append(seen: list[tuple[str, Any]], name: str, output: Tensor) -> None:
    seen.append((name, output))


# ---- strength ----------------------------------------------------------------------------------------------


def zero_strength_is_identity(case: Case) -> None:
    """At the settings ``zero`` the training is that of the plain model, bit for bit."""
    if any(part.zero is None for part in case.parts):
        raise SkipTest(f"{case.name} declares no settings at which it is the identity")
    zero = tuple(dataclasses.replace(part, **(part.zero or {})) for part in case.parts)
    gap = difference(_trained(dataclasses.replace(case, parts=zero)), _trained_plain(case))
    assert gap is None, f"{'+'.join(map(str, zero))} does not train as the plain model does: {gap}"


def it_acts(case: Case) -> None:
    """At the settings it is checked with, the training differs from the plain one."""
    if all(part.zero is not None and dataclasses.replace(part, **part.zero) == part for part in case.parts):
        raise SkipTest(f"{case.name} is meant to do nothing")
    gap = difference(_trained(case, steps=3 * STEPS), _trained_plain(case, steps=3 * STEPS))
    assert gap is not None, (
        f"{case.name} changes nothing in {3 * STEPS} steps: does it act at these settings?"
    )


def _trained(case: Case, *, steps: int = STEPS, **options: Any) -> dict[str, Tensor]:
    """Train a fresh model; return its weights and buffers and the regularizer's."""
    model = case.model()
    regularizer = attached(case, model)
    train(model, case.task, regularizer, case.batches(steps), **options)
    state = copied(model.state_dict())
    regularizer.detach()
    return state


def _trained_plain(case: Case, *, steps: int = STEPS, **options: Any) -> dict[str, Tensor]:
    model = case.model()
    train(model, case.task, NoRegularizer(), case.batches(steps), **options)
    return copied(model.state_dict())


# ---- the model stays what it is ----------------------------------------------------------------------------


def model_stays_itself(case: Case) -> None:
    """Attached, the model keeps modules, parameters and state-dict keys; after detach() nothing is left."""
    model = case.model()
    plain = anatomy(model)
    keys, names = list(model.state_dict()), [name for name, _ in model.named_modules()]
    parameters = dict(model.named_parameters())
    regularizer = attached(case, model)
    own = {id(parameter) for parameter in regularizer.parameters()}
    shared = [name for name, parameter in parameters.items() if id(parameter) in own]
    assert not shared, f"{case.name} counts the model's parameter {shared[0]} as its own"
    train(model, case.task, regularizer, case.batches(2))
    assert list(model.state_dict()) == keys, f"{case.name} changes the model's state-dict keys"
    assert [name for name, _ in model.named_modules()] == names, f"{case.name} changes the model's modules"
    kept = dict(model.named_parameters())
    replaced = [name for name in parameters if kept.get(name) is not parameters[name]]
    assert not replaced, f"{case.name} replaces the model's parameter {replaced[0]}"
    regularizer.detach()
    left = different_anatomy(plain, anatomy(model))
    assert left is None, f"after detach() {left}"


def detach_is_harmless(case: Case) -> None:
    """detach() may come before attach() and twice; what was detached can be attached again."""
    regularizer = case.regularizer()
    regularizer.detach()
    for seed in (0, 1):
        model = case.model(seed)
        plain = anatomy(model)
        regularizer.attach(model, case.task)
        train(model, case.task, regularizer, case.batches(2))
        regularizer.detach()
        regularizer.detach()
        left = different_anatomy(plain, anatomy(model))
        assert left is None, f"after attach() number {seed + 1} and detach() {left}"


def an_exception_leaves_the_plain_model(case: Case) -> None:
    """After an exception in mid-step detach() gives the plain model back, and the role is ``full`` again."""
    batch = case.batches(1)[0]
    for after in (0, 1):
        model = case.model().train()
        plain = anatomy(model)
        regularizer = attached(case, model)
        task = copy.copy(case.task)
        _fail_after(task, after)
        with contextlib.suppress(_Expected):
            for loss in step_losses(model, task, regularizer, batch, stream(0, "exception")):
                loss.backward()  # type: ignore[no-untyped-call]
                raise _Expected  # what a failing backward() does to the generator
        assert current_role() is PassRole.FULL, f"an exception leaves the role {current_role()}"
        regularizer.detach()
        left = different_anatomy(plain, anatomy(model))
        assert left is None, f"after an exception and detach() {left}"
    assert not torch.is_inference_mode_enabled(), "an exception leaves inference mode on"
    assert torch.is_grad_enabled(), "an exception leaves gradients off"


class _Expected(Exception):
    """Raised by a check."""


def _fail_after(task: Task, calls: int) -> None:
    criterion, count = task.criterion, 0

    def fail(outputs: Any, batch: Batch) -> Tensor:
        nonlocal count
        count += 1
        if count > calls:
            raise _Expected
        return criterion(outputs, batch)

    task.criterion = fail  # type: ignore[method-assign]


def anatomy(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Return what can be seen of every module: type, members, hooks, flags and other plain attributes."""
    return {
        name: {
            "type": type(module),
            **{
                key: len(value) if key.endswith("_hooks") else value
                for key, value in vars(module).items()
                if key.endswith("_hooks") or isinstance(value, (bool, int, float, str, tuple, type(None)))
            },
            "members": sorted(vars(module)),
            "own tensors": sorted((*module._parameters, *module._buffers, *module._modules)),
        }
        for name, module in model.named_modules()
    }


def different_anatomy(plain: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]]) -> str | None:
    """Say where two anatomies first differ, the training flags set aside; None where they do not."""
    if plain.keys() != now.keys():
        return f"the model has other modules: {sorted(plain.keys() ^ now.keys())}"
    for name, before in plain.items():
        after = now[name]
        for key in before.keys() | after.keys():
            if key != "training" and before.get(key) != after.get(key):
                place = f"the module {name!r}" if name else "the model"
                return f"{place} is not what it was: {key} was {before.get(key)} and is {after.get(key)}"
    return None


# ---- passes and buffers ------------------------------------------------------------------------------------


def only_full_passes_move_buffers(case: Case) -> None:
    """A step moves batch-norm's statistics once, as the plain pass on its batch does; other roles never."""
    model = case.model().train()
    regularizer = attached(case, model)
    batch = case.batches(1)[0]
    generator = stream(0, "buffers")
    regularizer.transform(model, batch, case.task, generator)
    for role in (PassRole.SUB, PassRole.PROBE, PassRole.ATTRIBUTION):
        before = copied(dict(model.named_buffers()))
        with run_as(model, role), torch.no_grad():
            case.task.loss(model, batch)
        gap = difference(before, dict(model.named_buffers()))
        assert gap is None, f"a pass with the role {role.value} moves the model's buffers: {gap}"
    regularizer.detach()

    stepped, plain = case.model().train(), case.model().train()
    regularizer = attached(case, stepped)
    generator = stream(0, "buffers")
    with global_stream(0, "model"):
        changed = regularizer.transform(stepped, batch, case.task, generator)
        after_transform = difference(dict(plain.named_buffers()), dict(stepped.named_buffers()))
        assert after_transform is None, f"transform() moves the model's buffers: {after_transform}"
        for loss in regularizer.losses(stepped, changed, case.task, generator):
            loss.backward()  # type: ignore[no-untyped-call]
    with global_stream(0, "model"):
        case.task.loss(plain, changed)
    counts, wanted = (
        {n: b for n, b in m.named_buffers() if n.endswith("num_batches_tracked")} for m in (stepped, plain)
    )
    gap = difference(counts, wanted)
    assert gap is None, f"a step counts as another number of full passes than one: {gap}"
    if all(part.stage in (Stage.INPUT, Stage.MIX, Stage.LABEL) for part in case.parts):
        gap = difference(dict(stepped.named_buffers()), dict(plain.named_buffers()))
        assert gap is None, f"a step moves buffers otherwise than the plain pass on the same batch: {gap}"


# ---- resume and determinism --------------------------------------------------------------------------------


def resumes_to_the_bit(case: Case) -> None:
    """Killed at any step or epoch's end and resumed by new objects, a training ends in the same bits."""
    task = shortened(case.task, batches=3)
    own = task.settings.recipe
    recipe = dataclasses.replace(
        own, batch_size=min(own.batch_size, 8), budget=Budget(epochs=2), eval_every=1, warmup=0.2
    )

    def run(events: Sequence[str]) -> dict[str, Any]:
        observer = Ending(kill=events)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder) / "checkpoint.pt"
            for attempt in range(len(events) + 1):
                # Other initial weights wherever there is a checkpoint: what it forgets shows in the end.
                seed = attempt if checkpoint.exists() else 0
                model, regularizer = case.model(seed=seed), case.regularizer()
                with contextlib.suppress(Killed):
                    result = fit(
                        model,
                        task,
                        regularizer,
                        recipe,
                        checkpoint=checkpoint,
                        checkpoint_seconds=0.0,
                        observer=observer,
                    )
                    history = [dataclasses.replace(record, seconds=0.0) for record in result.history]
                    return {
                        "weights": copied(model.state_dict()),
                        "state": copied(regularizer.state_dict()),
                        "history": history,
                    }
        raise AssertionError("a kill did not happen")

    undisturbed = run(())
    steps = undisturbed["history"][-1].step
    per_epoch = undisturbed["history"][0].step
    # In the middle of an epoch, at its end, just after, and before the last step is saved.
    events = dict.fromkeys([f"step {min(2, steps)}", "epoch 1", f"step {per_epoch + 1}", f"step {steps}"])
    resumed = run(list(events))
    for what in ("weights", "state"):
        gap = difference(undisturbed[what], resumed[what])
        assert gap is None, f"killed and resumed, {case.name} ends with other {what}: {gap}"
    assert repr(undisturbed["history"]) == repr(resumed["history"]), (
        f"killed and resumed, {case.name} measures {resumed['history']} instead of {undisturbed['history']}"
    )


def draws_from_its_generator_alone(case: Case) -> None:
    """The same generator gives the same bits; the global ones of torch, numpy and random stay untouched."""
    # A model's own dropout draws from torch's generator; where it cannot be switched off, lend it one.
    quiet = difference(*(_trained_quietly(case, NoRegularizer(), seed) for seed in (0, 1))) is None
    states = []
    for seed in (0, 1):
        with _seeded_globals(seed):
            states.append(_trained_quietly(case, case.regularizer(), None if quiet else 0))
    gap = difference(*states)
    assert gap is None, f"{case.name} draws from something else than its generator: {gap}"


def _trained_quietly(case: Case, regularizer: Regularizer[Any], global_seed: int | None) -> dict[str, Tensor]:
    model = case.model()
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
    with global_stream(0, "attach"):
        regularizer.attach(model, case.task)
    train(model, case.task, regularizer, case.batches(STEPS), global_seed=global_seed)
    state = copied(model.state_dict())
    regularizer.detach()
    return state


@contextlib.contextmanager
def _seeded_globals(seed: int) -> Iterator[None]:
    """Seed all global generators, give them back as they were, and hold the block to leaving them alone."""
    kept = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            before = _global_states()
            yield
            for name, was in before.items():
                assert np.array_equal(was, _global_states()[name]), (
                    f"the global generator of {name} was drawn from"
                )
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002


def _global_states() -> dict[str, Any]:
    return {
        "torch": torch.get_rng_state().numpy().copy(),
        "numpy": np.random.get_state()[1].copy(),  # type: ignore[index]  # noqa: NPY002
        "random": np.array(random.getstate()[1]),
    }


def state_is_whole(case: Case) -> None:
    """``state_dict()`` is plain data, and a new regularizer that loads it goes on alike; deep copies work."""
    batches = case.batches(2 * STEPS)
    model = case.model()
    regularizer = attached(case, model)
    optimizer = sgd(model, regularizer)
    train(model, case.task, regularizer, batches[:STEPS], of=2 * STEPS, optimizer=optimizer)
    file = io.BytesIO()
    torch.save(
        {"model": model.state_dict(), "own": regularizer.state_dict(), "optimizer": optimizer.state_dict()},
        file,
    )
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = case.model(seed=1)
    resumed = attached(case, second)
    second.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["own"])
    second_optimizer = sgd(second, resumed)
    second_optimizer.load_state_dict(saved["optimizer"])
    for one, its, moves in ((model, regularizer, optimizer), (second, resumed, second_optimizer)):
        train(one, case.task, its, batches[STEPS:], first=STEPS, of=2 * STEPS, optimizer=moves)
    gap = difference(copied(model.state_dict()), copied(second.state_dict()))
    assert gap is None, f"{case.name} keeps state outside of its state_dict(): {gap}"
    regularizer.detach()
    twin = copy.deepcopy(regularizer)
    gap = difference(twin.state_dict(), regularizer.state_dict())
    assert gap is None, f"a deep copy of {case.name} has another state: {gap}"


# ---- inputs of all kinds -----------------------------------------------------------------------------------


def inputs_stay_as_they_are(case: Case) -> None:
    """Neither a batch nor the features that it is given are changed in place."""
    for place in _places(case):
        x = _noise(place.shapes[0])
        kept = x.clone()
        place.run(x)
        assert torch.equal(x, kept), f"{case.name} changes features of shape {tuple(x.shape)} in place"
    model = case.model().train()
    regularizer = attached(case, model)
    for batch in case.batches(3 * STEPS):
        before, fields = copied(batch), dict(vars(batch))
        for loss in step_losses(model, case.task, regularizer, batch, stream(0, "inputs")):
            loss.backward()  # type: ignore[no-untyped-call]
        gap = difference(before, copied(batch))
        assert gap is None, f"{case.name} changes the batch in place: {gap}"
        assert all(vars(batch)[key] is value for key, value in fields.items()), (
            f"{case.name} changes the batch"
        )
    regularizer.detach()


def a_batch_of_one_works(case: Case) -> None:
    """A batch of one sample gives finite losses and gradients, wherever the plain model can train on it."""
    index = case.task.order(0, 0, 8)[0][:1]
    batch = case.task.batch("train", index)
    _try_plain(case, batch, "a batch of one")
    _assert_trains_on(case, batch, "a batch of one")


def odd_shapes_work(case: Case) -> None:
    """Odd, narrow and single-element maps give finite results of equal shape, and so do cropped inputs."""
    tried = 0
    for place in _places(case):
        for shape in place.shapes:
            x = _noise(shape).requires_grad_()
            out = place.run(x)
            assert out.shape == x.shape, f"{case.name} turns {tuple(x.shape)} into {tuple(out.shape)}"
            _assert_finite(case, out, x, f"features of shape {tuple(shape)}")
            tried += 1
    batch = case.batches(1)[0]
    if "grid_inputs" in case.task.settings.provides and isinstance(batch.inputs, Tensor):
        for cut in ((1, 0), (0, 3), (4, 1)):
            odd = _cropped(batch, cut)
            with contextlib.suppress(SkipTest):
                _try_plain(case, odd, "this shape")
                _assert_trains_on(case, odd, f"inputs of shape {tuple(odd.inputs.shape)}")
                tried += 1
    if not tried:
        raise SkipTest("neither features nor inputs on a grid to try shapes on")


def half_precision_works(case: Case) -> None:
    """Features and inputs in half precision keep their type; autocast gives finite losses and gradients."""
    for place in _places(case):
        for dtype in (torch.bfloat16, torch.float16):
            x = _noise(place.shapes[-1]).to(dtype).requires_grad_()
            out = place.run(x)
            assert out.dtype == dtype, f"{case.name} turns {dtype} features into {out.dtype}"
            _assert_finite(case, out, x, f"{dtype} features")
    batch = case.batches(1)[0]
    if isinstance(batch.inputs, Tensor) and batch.inputs.is_floating_point():
        model = case.model().train()
        regularizer = attached(case, model)
        half = batch.replace(inputs=batch.inputs.to(torch.bfloat16))
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
            changed = regularizer.transform(model, half, case.task, stream(0, "half"))
        regularizer.detach()
        found = changed.inputs.dtype
        assert found == torch.bfloat16, f"transform() turns bfloat16 inputs into {found}"
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype, cache_enabled=False):
            try:
                _try_plain(case, batch, str(dtype))
            except SkipTest:
                continue
        _assert_trains_on(case, batch, f"autocast to {dtype}", autocast=dtype)


def gradients_reach_every_parameter(case: Case) -> None:
    """Each parameter that the plain model trains is trained, and each of the regularizer's own."""
    reached: set[str] = set()

    def record(*modules: tuple[str, nn.Module]) -> Callable[[], None]:
        def look() -> None:
            for prefix, module in modules:
                for name, parameter in module.named_parameters():
                    if parameter.grad is not None and bool(parameter.grad.any()):
                        reached.add(f"{prefix} {name}")

        return look

    batches = case.batches(2 * STEPS)
    plain = case.model()
    train(plain, case.task, NoRegularizer(), batches, on_gradients=record(("the model's", plain)))
    wanted = set(reached)
    reached.clear()
    model = case.model()
    regularizer = attached(case, model)
    look = record(("the model's", model), ("its own", regularizer))
    train(model, case.task, regularizer, batches, on_gradients=look)
    wanted |= {f"its own {name}" for name, p in regularizer.named_parameters() if p.requires_grad}
    missing = sorted(wanted - reached)
    assert not missing, f"with {case.name} no gradient reaches {missing[0]} in {len(batches)} steps"


# ---- helpers -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Place:
    """A feature point, and the regularizer attached to a model that is nothing but it."""

    shapes: tuple[tuple[int, ...], ...]
    run: Callable[[Tensor], Tensor]


class _OnePlace(nn.Module):
    """A model whose single submodule passes features on."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.place(x)
        return out


def _places(case: Case) -> Iterator[_Place]:
    """Yield a place of every layout and number of dimensions that the task has, for feature regularizers."""
    if not all(isinstance(part, FeatureRegularizer) for part in _parts(case.regularizer())):
        return
    real = case.model()
    default = [point for point in case.task.features(real) if point.default]
    seen: dict[str, Tensor] = {}
    for point in default:
        hook_point(real, point, looking(functools.partial(seen.__setitem__, point.name)))
    batch = case.batches(1)[0]
    with torch.no_grad():
        case.task.loss(real.eval(), batch)
    shapes = {name: features.shape for name, features in seen.items()}
    for point in {(point.layout, len(shapes[point.name])): point for point in default}.values():
        for graphs in (1, 3) if point.layout == "nodes" else (1,):
            model, task = _OnePlace().train(), copy.copy(case.task)
            only = FeaturePoint("place", channels=point.channels, layout=point.layout)
            task.features = lambda model, only=only: [only]  # type: ignore[method-assign, misc]
            task.graph_of_node = lambda x, graphs=graphs: _graphs(len(x), graphs)  # type: ignore[method-assign, misc]
            task.criterion = lambda outputs, batch: outputs.float().square().mean()  # type: ignore[method-assign]
            regularizer = build_regularizer([_anywhere(part) for part in case.parts])
            with global_stream(0, "attach"):
                regularizer.attach(model, task)
            regularizer.train()
            regularizer.after_step(1.0)
            run = functools.partial(_step_at_a_place, model, regularizer, task)
            yield _Place(_odd_shapes(point, len(shapes[point.name])), run)
            regularizer.detach()


def _step_at_a_place(model: nn.Module, regularizer: Regularizer[Any], task: Task, x: Tensor) -> Tensor:
    """Return what becomes of features in a step whose batch, and model, are nothing but they."""
    batch = Batch(x.detach().requires_grad_(), torch.zeros(len(x), dtype=torch.int64))
    regularizer.transform(model, batch, task, stream(0, "place"))
    out: Tensor = model(x)
    return out


def _graphs(nodes: int, graphs: int) -> Tensor | None:
    """Return which graph each of some nodes belongs to; None for one graph."""
    return torch.arange(nodes) * graphs // max(nodes, graphs) if graphs > 1 else None


def _anywhere(settings: Any) -> Any:
    return dataclasses.replace(settings, where=()) if hasattr(settings, "where") else settings


def _parts(regularizer: Regularizer[Any]) -> list[Any]:
    return list(getattr(regularizer, "parts", [regularizer]))


def _odd_shapes(point: FeaturePoint, dimensions: int) -> tuple[tuple[int, ...], ...]:
    """Return shapes of a place's layout and dimensions, from a single element to primes."""
    c = point.channels
    if point.layout == "nodes":
        return (1, c), (2, c), (17, c)
    if point.layout == "channels_last":
        return tuple((b, *positions, c) for b, *positions in _odd_positions(dimensions - 2))
    return tuple((b, c, *positions) for b, *positions in _odd_positions(dimensions - 2))


def _odd_positions(count: int) -> list[tuple[int, ...]]:
    sizes = [(1, (1, 1, 1)), (1, (2, 3, 1)), (2, (1, 7, 2)), (3, (5, 2, 3)), (3, (13, 11, 2))]
    return [(b, *positions[:count]) for b, positions in sizes]


def _noise(shape: Sequence[int]) -> Tensor:
    return torch.randn(*shape, generator=stream(0, "noise"))


def _assert_finite(case: Case, out: Tensor, x: Tensor, what: str) -> None:
    assert bool(torch.isfinite(out).all()), f"{case.name} gives non-finite values for {what}"
    if out is x:
        return
    (gradient,) = torch.autograd.grad(out.float().square().sum(), x)
    assert gradient.dtype == x.dtype, f"{case.name} gives gradients of {gradient.dtype} for {what}"
    assert bool(torch.isfinite(gradient).all()), f"{case.name} gives non-finite gradients for {what}"


def _cropped(batch: Batch, cut: tuple[int, int]) -> Batch:
    """Cut rows and columns off the inputs, and off dense targets."""
    height, width = (size - less for size, less in zip(batch.inputs.shape[-2:], cut, strict=True))
    targets = batch.targets
    if isinstance(targets, Tensor) and targets.ndim > 1:
        targets = targets[..., :height, :width]
    return batch.replace(inputs=batch.inputs[..., :height, :width], targets=targets)


def _try_plain(case: Case, batch: Batch, what: str) -> None:
    """Skip where the plain model cannot train on a batch."""
    model = case.model().train()
    try:
        with global_stream(0, "model"):
            loss = case.task.loss(model, batch)
            loss.backward()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise SkipTest(f"the plain model itself cannot train on {what}: {error}") from error
    if not torch.isfinite(loss):
        raise SkipTest(f"the plain model's own loss on {what} is {float(loss.detach())}")


def _assert_trains_on(case: Case, batch: Batch, what: str, autocast: torch.dtype | None = None) -> None:
    model = case.model().train()
    regularizer = attached(case, model)
    generator = stream(0, "shape")
    with global_stream(0, "model"):
        for _ in range(STEPS):
            for loss in step_losses(model, case.task, regularizer, batch, generator, autocast):
                loss.backward()  # type: ignore[no-untyped-call]
            for owner in (model, regularizer):
                for name, parameter in owner.named_parameters():
                    if parameter.grad is not None:
                        finite = bool(torch.isfinite(parameter.grad).all())
                        assert finite, f"{case.name} on {what} gives a non-finite gradient for {name}"
                        assert parameter.grad.dtype == parameter.dtype, (
                            f"{case.name} on {what}: gradient type"
                        )
    regularizer.detach()


REGULARIZER_RULES: tuple[Callable[[Case], None], ...] = (
    settings_are_plain,
    eval_is_identity,
    zero_strength_is_identity,
    it_acts,
    model_stays_itself,
    detach_is_harmless,
    an_exception_leaves_the_plain_model,
    only_full_passes_move_buffers,
    resumes_to_the_bit,
    draws_from_its_generator_alone,
    state_is_whole,
    inputs_stay_as_they_are,
    a_batch_of_one_works,
    odd_shapes_work,
    half_precision_works,
    gradients_reach_every_parameter,
)
"""All rules of regularizers, in the order in which they are tried."""
