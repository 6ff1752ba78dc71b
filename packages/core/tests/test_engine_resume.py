"""A training that is killed and resumed ends in the bits of one that was not, whatever the recipe."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from regathlon_core import (
    Budget,
    Compose,
    CutMix,
    DropBlock,
    EpochRecord,
    FitResult,
    Interrupted,
    Recipe,
    Regularizer,
    fit,
)
from regathlon_core.testing import Ending, Killed, ToyImages, ToyScenes, ToyTokens
from regathlon_core.testing.toys import ToyImagesSettings, ToyScenesSettings, ToyTokensSettings
from regathlon_core.testing.trees import copied, difference

IMAGES = ToyImages(ToyImagesSettings(samples=40))
TOKENS = ToyTokens(ToyTokensSettings(samples=40))


class Watcher(Ending):
    """Hears everything, besides."""

    def __init__(self, stop: Sequence[int] = (), kill: Sequence[int] = ()) -> None:
        super().__init__(stop=stop, kill=[f"step {step}" for step in kill])
        self.starts: list[tuple[int, int, int]] = []
        self.records: list[EpochRecord] = []

    def started(self, step: int, total_steps: int, history: tuple[EpochRecord, ...]) -> None:
        self.starts.append((step, total_steps, len(history)))

    def epoch_ended(self, record: EpochRecord) -> None:
        self.records.append(record)


def regularizer() -> Regularizer[Any]:
    return Compose([DropBlock(p=0.2, block_size=3), CutMix(p=0.5)])


def train(
    task: Any, recipe: Recipe, path: Path | None, watcher: Watcher, seed: int = 0, **options: Any
) -> Any:
    """Train, resuming after each death with new objects; return weights, history and cost."""
    for attempt in range(20):
        # Once there is a checkpoint, the initial weights do not matter.
        model = task.model(seed=attempt if path is not None and path.exists() else 0)
        made = regularizer() if task is IMAGES else None
        try:
            result = fit(model, task, made, recipe, seed=seed, checkpoint=path, observer=watcher, **options)
        except (Killed, Interrupted):
            continue
        history = [replace(record, seconds=0.0) for record in result.history]
        return copied(model.state_dict()), history, result.cost
    raise AssertionError("never finished")


RECIPES = {
    "sgd cosine": Recipe(budget=Budget(epochs=3)),
    "sgd step warmup clip": Recipe(schedule="step", warmup=0.2, clip_norm=0.5, budget=Budget(epochs=3)),
    "sgd constant plain": Recipe(schedule="constant", momentum=0.0, nesterov=False, budget=Budget(steps=7)),
    "sgd no decay on norm": Recipe(decay_norm_and_bias=False, budget=Budget(steps=8)),
    "adam cosine min_lr": Recipe(optimizer="adam", lr=0.01, min_lr=0.001, budget=Budget(epochs=3)),
    "adamw step": Recipe(optimizer="adamw", lr=0.01, schedule="step", budget=Budget(steps=7)),
    "bf16 sgd": Recipe(precision="bf16", budget=Budget(epochs=3)),
    "fp16 sgd": Recipe(precision="fp16", budget=Budget(epochs=3)),
    "fp16 adam clip": Recipe(
        optimizer="adam", lr=0.01, precision="fp16", clip_norm=1.0, budget=Budget(epochs=3)
    ),
    "rare evaluation": Recipe(eval_every=2, budget=Budget(epochs=3)),
}


@pytest.mark.parametrize("task", [IMAGES, TOKENS], ids=["images", "tokens"])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_killed_and_resumed_ends_in_the_same_bits(task: Any, recipe: Recipe, tmp_path: Path) -> None:
    # 40 samples in batches of 16: two full batches and one that is half full.
    recipe = replace(recipe, batch_size=16)
    wanted = train(task, recipe, None, Watcher())
    # Rude deaths lose the step that was not saved; polite stops save first.
    watcher = Watcher(stop=(2, 6), kill=(1, 3, 4))
    found = train(task, recipe, tmp_path / "checkpoint.pt", watcher, checkpoint_seconds=0.0)
    assert difference(wanted[0], found[0]) is None
    assert repr(wanted[1]) == repr(found[1])
    assert [start[0] for start in watcher.starts] == [0, 0, 2, 2, 3, 6]
    assert found[2].steps == wanted[2].steps == watcher.step
    assert found[2].train_flops == wanted[2].train_flops


def test_the_last_batch_is_kept_when_half_full_and_dropped_when_less() -> None:
    for samples, per_epoch in ((40, 3), (39, 2), (16, 1), (5, 1)):
        task = ToyImages(ToyImagesSettings(samples=samples))
        order = task.order(0, 0, 16)
        assert len(order) == per_epoch
        assert len(torch.cat(order).unique()) == sum(map(len, order))


def test_a_budget_in_steps_ends_inside_an_epoch_and_measures_there() -> None:
    watcher = Watcher()
    result = fit(
        IMAGES.model(0), IMAGES, None, Recipe(batch_size=16, budget=Budget(steps=5)), observer=watcher
    )
    assert [(record.epoch, record.step) for record in result.history] == [(1, 3), (2, 5)]
    assert result.history[-1].test
    assert watcher.records == list(result.history)
    assert watcher.starts == [(0, 5, 0)]


def test_epochs_between_evaluations_are_empty_but_the_last_is_not() -> None:
    result = fit(IMAGES.model(0), IMAGES, None, Recipe(batch_size=16, eval_every=2, budget=Budget(epochs=5)))
    assert [bool(record.test) for record in result.history] == [False, True, False, True, True]
    assert [bool(record.val) for record in result.history] == [False, True, False, True, True]
    assert result.select("last", "accuracy").epoch == 5


def test_cost_and_history_survive_a_resume(tmp_path: Path) -> None:
    recipe = Recipe(batch_size=16, budget=Budget(epochs=3))
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Interrupted, match="stopped at step 5 of 9"):
        fit(IMAGES.model(0), IMAGES, None, recipe, checkpoint=path, observer=Watcher(stop=(5,)))
    saved = torch.load(path, weights_only=True)
    watcher = Watcher()
    result = fit(IMAGES.model(1), IMAGES, None, recipe, checkpoint=path, observer=watcher)
    assert watcher.starts == [(5, 9, 1)]
    assert result.cost.steps == 9
    assert result.cost.train_seconds > saved["cost"]["seconds"] > 0
    assert result.history[0].seconds == saved["history"][0]["seconds"]
    assert result.history[-1].seconds <= result.cost.train_seconds
    assert result.cost.peak_memory_mb >= saved["cost"]["peak"]


def test_stopping_without_a_checkpoint_stops_and_leaves_the_plain_model() -> None:
    model = IMAGES.model(0)
    with pytest.raises(Interrupted):
        fit(model, IMAGES, regularizer(), observer=Watcher(stop=(2,)))
    assert not any(module._forward_hooks for module in model.modules())


def test_a_stop_at_the_last_step_is_no_interruption() -> None:
    recipe = Recipe(batch_size=16, budget=Budget(steps=2))
    result = fit(IMAGES.model(0), IMAGES, None, recipe, observer=Watcher(stop=(2,)))
    assert result.history[-1].step == 2


def test_nothing_is_saved_before_it_is_due(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    fit(IMAGES.model(0), IMAGES, None, Recipe(batch_size=16, budget=Budget(epochs=1)), checkpoint=path)
    assert not path.exists()


def test_numbers_do_not_depend_on_what_trained_before(tmp_path: Path) -> None:
    recipe = Recipe(batch_size=16, budget=Budget(steps=4))
    alone = train(TOKENS, recipe, None, Watcher())
    train(IMAGES, recipe, None, Watcher(), seed=3)
    torch.manual_seed(123)
    again = train(TOKENS, recipe, None, Watcher())
    assert difference(alone[0], again[0]) is None
    other = train(TOKENS, recipe, None, Watcher(), seed=1)
    assert difference(alone[0], other[0]) is not None


def test_selection_by_validation_and_by_test() -> None:
    def record(epoch: int, val: float | None, test: float | None) -> EpochRecord:
        measured = [{} if value is None else {"m": value} for value in (val, test)]
        return EpochRecord(epoch, epoch, 0.0, 0.1, 0.0, *measured)

    def picked(history: list[EpochRecord], selection: Any, **options: Any) -> int:
        return FitResult(tuple(history), None, None).select(selection, "m", **options).epoch  # type: ignore[arg-type]

    history = [record(1, 0.5, 0.6), record(2, 0.7, 0.6), record(3, 0.7, 0.9), record(4, float("nan"), 0.1)]
    assert picked(history, "last") == 4
    assert picked(history, "best_val") == 2
    assert picked(history, "oracle") == 3
    assert picked(history, "best_val", lower_is_better=True) == 1
    assert picked(history, "oracle", lower_is_better=True) == 4
    assert picked([record(1, 0.5, None), record(2, 0.4, None)], "last") == 2
    with pytest.raises(ValueError, match="'best_val' needs 'm' on the val split"):
        picked([record(1, None, 0.5)], "best_val")
    with pytest.raises(ValueError, match="never evaluated"):
        picked([record(1, None, None)], "last")


def test_dense_tasks_resume_too(tmp_path: Path) -> None:
    task = ToyScenes(ToyScenesSettings(samples=20))
    recipe = Recipe(batch_size=8, budget=Budget(epochs=2))
    wanted = train(task, recipe, None, Watcher())
    found = train(task, recipe, tmp_path / "c.pt", Watcher(kill=(2, 4, 5)), checkpoint_seconds=0.0)
    assert difference(wanted[0], found[0]) is None
    assert repr(wanted[1]) == repr(found[1])
