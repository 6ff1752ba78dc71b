"""Batches prepared ahead by a thread change nothing but who prepares them."""

import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from regathlon_core import Batch, Budget, CutMix, DropBlock, GradAug, Recipe, fit
from regathlon_core.testing import ToyImages

RECIPE = Recipe(budget=Budget(steps=15), batch_size=16, eval_every=100)


class Watched(ToyImages):
    """Remembers which threads prepared its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[str] = set()

    def batch(self, split: Any, index: Tensor, draw: Any = None) -> Batch:
        if split == "train":
            self.threads.add(threading.current_thread().name)
        return super().batch(split, index, draw)


@pytest.mark.parametrize("method", [DropBlock, CutMix, GradAug])
@pytest.mark.parametrize("prefetch", [1, 3, 50])
def test_the_numbers_are_the_same(method: Any, prefetch: int) -> None:
    plain, ahead = Watched(), Watched()
    wanted = fit(plain.model(seed=0), plain, method(), RECIPE)
    found = fit(ahead.model(seed=0), ahead, method(), RECIPE, prefetch=prefetch)
    assert plain.threads == {threading.current_thread().name}
    assert ahead.threads
    assert all(name.startswith("prefetch") for name in ahead.threads)
    assert [record.train_loss for record in found.history] == [record.train_loss for record in wanted.history]
    for name, value in wanted.model.state_dict().items():
        assert torch.equal(value, found.model.state_dict()[name]), name
    assert found.cost.train_flops == wanted.cost.train_flops
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


class Broken(ToyImages):
    """Its third batch cannot be read."""

    def batch(self, split: Any, index: Tensor, draw: Any = None) -> Batch:
        self.read = getattr(self, "read", 0) + (split == "train")
        if self.read == 3:
            raise OSError("image 7 is broken")
        return super().batch(split, index, draw)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_what_goes_wrong_in_the_thread_is_said(prefetch: int) -> None:
    task = Broken()
    with pytest.raises(OSError, match="image 7"):
        fit(task.model(seed=0), task, None, RECIPE, prefetch=prefetch)
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())
