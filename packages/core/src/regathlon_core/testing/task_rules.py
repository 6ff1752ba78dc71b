"""The rules that a task keeps: each function is one, said by its docstring and called with a task."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from regathlon_core.errors import UserError
from regathlon_core.features import hook_point
from regathlon_core.rng import SampleDraw, global_stream, stream
from regathlon_core.settings import CAPABILITIES
from regathlon_core.task import Batch, Mixed, Split, Task
from regathlon_core.testing.cases import buildable_models, fresh_model, looking, shortened, training_batches
from regathlon_core.testing.regularizer_rules import assert_declaration
from regathlon_core.testing.trees import copied, difference, tensors

SPLITS: tuple[Split, ...] = ("train", "val", "test")


def declaration_is_plain(task: Task) -> None:
    """The declarations of the task and its models are plain data with defaults."""
    settings = task.settings
    assert_declaration(settings)
    assert settings.models, f"{settings.name} has no model"
    for model in settings.models:
        assert_declaration(model())
    assert "/" in settings.name, f"a task is named <area>/<data>, not {settings.name!r}"
    strange = sorted(settings.provides - CAPABILITIES.keys())
    assert not strange, f"{settings.name} provides {strange[0]!r}, which is no capability"
    for one in settings.grid():
        assert one.grid() == (one,), f"{settings.name} stands for tasks that stand for others again"
    assert len(set(task.classes)) == len(task.classes), f"{settings.name} names a class twice"


def provides_what_it_says(task: Task) -> None:
    """What ``provides`` promises is there, and what is not promised is refused with a message."""
    provides = task.settings.provides
    batch, model = training_batches(task, 1)[0], fresh_model(task)
    generator = stream(0, "provides")
    offers: dict[str, Callable[[], Any]] = {
        "features": lambda: task.features(model),
        "views": lambda: (next(iter(task.views(batch, generator))), task.output_layers(model)),
        "occlude": lambda: task.occlude(batch, _positions(task, batch)),
    }
    for name, ask in offers.items():
        if name in provides:
            ask()
            continue
        try:
            ask()
        except (UserError, AssertionError):
            continue
        raise AssertionError(f"{task.settings.name} offers {name} but its settings' provides does not say so")
    targets = batch.targets
    if "class_labels" in provides:
        assert isinstance(targets, Tensor), f"class labels are a tensor, not {type(targets).__name__}"
        assert targets.dtype == torch.int64, f"class labels are int64, not {targets.dtype}"
    if "sample_labels" in provides:
        wanted = batch.index.shape if batch.index is not None else None
        assert targets.shape == wanted, f"one label per sample is {wanted}, not {tuple(targets.shape)}"
    if "grid_inputs" in provides:
        inputs = batch.inputs
        assert isinstance(inputs, Tensor), f"inputs on a grid are a tensor, not {type(inputs).__name__}"
        assert inputs.is_floating_point(), f"inputs on a grid are floating, not {inputs.dtype}"
        assert inputs.ndim >= 3, f"inputs on a grid are [B, C, *spatial], not {tuple(inputs.shape)}"
        assert inputs.shape[1] == task.in_channels, (
            f"inputs have {inputs.shape[1]} channels, not {task.in_channels}"
        )
    has_domains = batch.domain is not None
    assert has_domains == ("domains" in provides), "Batch.domain and the capability 'domains' go together"


def batches_are_pure(task: Task) -> None:
    """A batch is a function of (split, index, draw) alone, and a sample does not depend on its companions."""
    for split in SPLITS:
        size = task.size(split)
        if not size:
            continue
        for draw in (None, SampleDraw(seed=3, epoch=5)):
            index = torch.randperm(size, generator=stream(0, "pure"))[:9]
            before = torch.get_rng_state()
            batch = task.batch(split, index, draw)
            assert batch.index is not None, "Batch.index is missing"
            assert torch.equal(batch.index, index), "Batch.index is not the indices that were asked for"
            assert torch.equal(before, torch.get_rng_state()), (
                "making a batch draws from torch's global generator"
            )
            gap = difference(batch, task.batch(split, index, draw))
            assert gap is None, f"the same {split} batch is not twice the same: {gap}"
            for others in (index.flip(0), index[:1], index[len(index) // 2 :]):
                _assert_samples_agree(batch, task.batch(split, others, draw), split)


def _assert_samples_agree(first: Batch, second: Batch, split: str) -> None:
    one, two = _samples(first), _samples(second)
    if one is None or two is None:
        return
    for name in one.keys() & two.keys():
        gap = difference(one[name], two[name])
        assert gap is None, f"sample {name} of {split} depends on the batch it is in: {gap}"


def _samples(batch: Batch) -> dict[int, Any] | None:
    """Return what belongs to each sample, by its index; None where a batch is not made of samples."""
    assert batch.index is not None
    count = len(batch.index)

    def split(part: Any) -> list[Any] | None:
        if hasattr(part, "get_example"):  # several graphs in one, as torch-geometric keeps them
            return [part.get_example(i) for i in range(count)]
        if isinstance(part, (Tensor, Sequence)) and len(part) == count:
            return list(part)
        return None

    inputs, targets = split(batch.inputs), split(batch.targets)
    if inputs is None or targets is None:
        return None
    return {int(i): (x, y) for i, x, y in zip(batch.index, inputs, targets, strict=True)}


def order_covers_the_data(task: Task) -> None:
    """Order is a pure function of (epoch, seed) that leaves none out for good; evaluation takes each once."""
    size = task.size("train")
    assert size, f"{task.settings.name} has no training samples"
    for batch_size in (8, task.settings.recipe.batch_size):
        before = torch.get_rng_state()
        seen = torch.zeros(size, dtype=torch.bool)
        for epoch in range(50):
            order = task.order(epoch, 1, batch_size)
            assert order, f"{task.settings.name} has epochs without batches"
            for index in order:
                assert index.dtype == torch.int64, f"indices are int64, not {index.dtype}"
                assert 0 <= int(index.min()) <= int(index.max()) < size, "an index is out of range"
                seen[index] = True
            if bool(seen.all()) and epoch:
                break
        assert bool(seen.all()), f"{int((~seen).sum())} of {size} samples are never trained on"
        assert torch.equal(before, torch.get_rng_state()), "order() draws from torch's global generator"
        first, again, other = (task.order(epoch, 1, batch_size) for epoch in (2, 2, 3))
        assert difference(first, again) is None, "order() is not a function of (epoch, seed)"
        if len(first) > 1:
            assert difference(first, other) is not None, "every epoch has the same order"
            reseeded = task.order(2, 2, batch_size)
            assert difference(first, reseeded) is not None, "every seed has the same order"
    for split in SPLITS:
        for batch_size in (5, 256):
            taken = sorted(int(i) for index in task.evaluation_order(split, batch_size) for i in index)
            assert taken == list(range(task.size(split))), (
                f"evaluation does not take each sample of {split} once"
            )


def labels_are_classes(task: Task) -> None:
    """Labels lie in [0, K) or are ``ignore_index``, and some of each split count."""
    if "class_labels" not in task.settings.provides:
        raise SkipTest(f"{task.settings.name} has no class labels")
    for split in SPLITS:
        for index in task.evaluation_order(split, 64)[:8]:
            targets = task.batch(split, index).targets
            counted = targets[targets != task.ignore_index]
            assert counted.numel(), f"no label of {split} counts"
            low, high = int(counted.min()), int(counted.max())
            assert 0 <= low <= high < len(task.classes), f"{split} has labels from {low} to {high}"


def models_train_and_evaluate(task: Task) -> None:
    """Every model trains a step with a gradient for each parameter, and evaluation reports the metric."""
    short = shortened(task, batches=2)
    batch = training_batches(task, 1)[0]
    for which, settings in buildable_models(task):
        model = fresh_model(task, which=which).train()
        twin = fresh_model(task, which=which)
        gap = difference(model.state_dict(), twin.state_dict())
        assert gap is None, f"{settings.name} is not initialised from torch's generator alone: {gap}"
        with global_stream(0, "model"):
            loss = task.loss(model, batch)
        assert loss.ndim == 0, f"the loss of {settings.name} is no scalar but {tuple(loss.shape)}"
        assert bool(torch.isfinite(loss)), f"the loss of {settings.name} is {float(loss.detach())}"
        loss.backward()  # type: ignore[no-untyped-call]
        idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not idle, f"no gradient reaches {idle[0]} of {settings.name}"
        next(model.children()).eval()
        flags = [module.training for module in model.modules()]
        for split in SPLITS:
            if not task.size(split):
                continue
            before = copied(model.state_dict())
            found = short.evaluate(model, split)
            assert task.settings.metric in found, (
                f"evaluation on {split} does not report {task.settings.metric}"
            )
            assert all(isinstance(value, float) for value in found.values()), "metrics are Python floats"
            assert found == short.evaluate(model, split), f"two evaluations on {split} differ"
            assert difference(before, model.state_dict()) is None, "evaluation changes the model"
            assert flags == [module.training for module in model.modules()], (
                "evaluation changes the model's flags"
            )


def evaluation_counts_samples(task: Task) -> None:
    """Metrics do not depend on the batches that a split is evaluated in (within rounding)."""
    split: Split = "test" if task.size("test") else "val"
    if task.size(split) > 600:
        raise SkipTest("the split is large; evaluating it twice takes long")
    model = fresh_model(task)
    one, other = task.evaluate(model, split, batch_size=7), task.evaluate(model, split, batch_size=64)
    for name, value in one.items():
        # A tie between two classes may break otherwise in batches of another size: allow one sample.
        near = math.isclose(value, other[name], abs_tol=1.5 / task.size(split)) or value != value
        assert near, f"{name} is {value} in batches of 7 and {other[name]} in batches of 64"


def features_are_there(task: Task) -> None:
    """Feature points name submodules of every model; their outputs have the channels and layout they say."""
    if "features" not in task.settings.provides:
        raise SkipTest(f"{task.settings.name} offers no features")
    batch = training_batches(task, 1)[0]
    for which, settings in buildable_models(task):
        model = fresh_model(task, which=which).train()
        points = task.features(model)
        assert any(point.default for point in points), f"{settings.name} has no default feature point"
        names = [point.name for point in points]
        assert len(set(names)) == len(names), f"{settings.name} names a feature point twice"
        seen: dict[str, Tensor] = {}
        for point in points:
            hook_point(model, point, looking(functools.partial(seen.__setitem__, point.name)))
        with global_stream(0, "model"):
            task.loss(model, batch)
        for point in points:
            assert point.name in seen, f"{settings.name} never runs its feature point {point.name}"
            output = seen[point.name]
            assert isinstance(output, Tensor), f"{point.name} gives a {type(output).__name__}, not a tensor"
            axis = 1 if point.layout == "channels_first" else -1
            found = output.shape[axis]
            assert found == point.channels, f"{point.name} has {found} channels, not {point.channels}"
            wanted = {"channels_first": range(2, 6), "channels_last": range(3, 4), "nodes": range(2, 3)}
            assert output.ndim in wanted[point.layout], (
                f"{point.name} is {tuple(output.shape)}, not {point.layout}"
            )


def views_keep_labels(task: Task) -> None:
    """Views come without end from their generator alone, keep samples and labels, and align outputs."""
    if "views" not in task.settings.provides:
        raise SkipTest(f"{task.settings.name} offers no views")
    assert task.settings.views, f"{task.settings.name} offers views but names no kind of view"
    batch, model = training_batches(task, 1)[0], fresh_model(task).train()
    if all(isinstance(part, Tensor) for part in (batch.inputs, batch.targets)):
        share = torch.linspace(0.2, 0.8, len(batch.targets))
        batch = batch.replace(mixed=Mixed(batch.targets.roll(1, 0), share))
    before, state = copied(batch), torch.get_rng_state()
    for kinds in ((), *((kind,) for kind in task.settings.views)):
        first, again = (
            list(itertools.islice(task.views(batch, stream(0, "views"), kinds), 6)) for _ in range(2)
        )
        assert len(first) == 6, f"views() ends after {len(first)} views"
        assert torch.equal(state, torch.get_rng_state()), "views() draws from torch's global generator"
        assert difference(before, copied(batch)) is None, "views() changes the batch in place"
        assert any(difference(batch, view.batch) is not None for view in first), (
            "no view differs from the batch"
        )
        for view, twin in zip(first, again, strict=True):
            gap = difference(view.batch, twin.batch)
            assert gap is None, f"views() is not a function of its generator: {gap}"
            assert difference(view.batch.index, batch.index) is None, "a view has other samples"
            if "sample_labels" in task.settings.provides:
                assert difference(view.batch.targets, batch.targets) is None, "a view has other labels"
                assert difference(view.batch.mixed, batch.mixed) is None, "a view forgets mixed labels"
            with global_stream(0, "model"):
                loss = task.loss(model, view.batch)
                full, own = task.predict(model, batch), task.predict(model, view.batch)
            assert bool(torch.isfinite(loss)), f"the loss on a view is {float(loss.detach())}"
            if isinstance(own, Tensor):
                shapes = tuple(view.align(full).shape), tuple(own.shape)
                assert shapes[0] == shapes[1], (
                    f"aligned outputs are {shapes[0]}, those of the view {shapes[1]}"
                )
            elif "soft_loss" in task.settings.provides:
                compared = task.soft_loss(own, view.align(full))
                assert bool(torch.isfinite(compared)), f"a view's soft loss is {float(compared.detach())}"
    try:
        next(iter(task.views(batch, stream(0, "views"), ("no such kind",))))
    except UserError:
        pass
    else:
        raise AssertionError("views() takes a kind of view that there is not")
    for name in task.output_layers(model):
        model.get_submodule(name)


def occlusion_occludes(task: Task) -> None:
    """Occluding nothing is the identity; occluding changes only what was asked for, and not in place."""
    if "occlude" not in task.settings.provides:
        raise SkipTest(f"{task.settings.name} offers no occlusion")
    batch = training_batches(task, 1)[0]
    nowhere = _positions(task, batch)
    before = copied(batch)
    gap = difference(batch, task.occlude(batch, nowhere))
    assert gap is None, f"occluding nothing changes the batch: {gap}"
    where = torch.rand(nowhere.shape, generator=stream(0, "where")) < 0.5
    occluded = task.occlude(batch, where)
    assert difference(before, copied(batch)) is None, "occlude() changes the batch in place"
    assert difference(batch.targets, occluded.targets) is None, "occlude() changes the labels"
    now, then = task.attributed(occluded.inputs), task.attributed(batch.inputs)
    kept = ~where[:, None].expand_as(then)
    assert torch.equal(now[kept], then[kept]), "occlude() changes positions that it should not"
    assert not torch.equal(now, then), "occlude() changes nothing"


def _positions(task: Task, batch: Batch) -> Tensor:
    """Return a mask over the positions that can be occluded, [B, *positions], that is False everywhere."""
    inputs = task.attributed(batch.inputs)
    assert isinstance(inputs, Tensor), f"attributed() returns a {type(inputs).__name__}, not a tensor"
    assert inputs.is_floating_point(), f"attributed() returns {inputs.dtype}; relevance needs a floating type"
    return torch.zeros(inputs.shape[0], *inputs.shape[2:], dtype=torch.bool)


def soft_loss_compares(task: Task) -> None:
    """The soft loss is 0 between equal outputs, above 0 between others, and its reference is a constant."""
    if "soft_loss" not in task.settings.provides:
        raise SkipTest(f"{task.settings.name} offers no soft loss")
    batch = training_batches(task, 1)[0]
    with global_stream(0, "model"):
        first, second = (task.predict(fresh_model(task, seed).train(), batch) for seed in (0, 1))
    same, other = task.soft_loss(first, first), task.soft_loss(first, second)
    zero, above = float(same.detach()), float(other.detach())
    assert abs(zero) < 1e-6, f"the soft loss of outputs with themselves is {zero}"
    assert above > zero, f"the soft loss of different outputs is {above}"
    for name, gradient in _gradients(other, second):
        assert gradient is None, f"the soft loss sends a gradient to its reference{name}"
    assert any(gradient is not None for _, gradient in _gradients(other, first)), (
        "the soft loss has no gradient"
    )


def _gradients(loss: Tensor, outputs: Any) -> Iterator[tuple[str, Tensor | None]]:
    for name, output in tensors(outputs):
        if not output.requires_grad:  # a box among the outputs, say
            continue
        yield name, torch.autograd.grad(loss, output, retain_graph=True, allow_unused=True)[0]


TASK_RULES: tuple[Callable[[Task], None], ...] = (
    declaration_is_plain,
    provides_what_it_says,
    batches_are_pure,
    order_covers_the_data,
    labels_are_classes,
    models_train_and_evaluate,
    evaluation_counts_samples,
    features_are_there,
    views_keep_labels,
    occlusion_occludes,
    soft_loss_compares,
)
"""All rules of tasks, in the order in which they are tried."""
