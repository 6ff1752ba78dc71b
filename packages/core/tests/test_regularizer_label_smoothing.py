"""Label smoothing: its distribution, and that the task's loss uses it."""

import pytest
import torch
import torch.nn.functional as F

from regathlon_core import Compose, LabelSmoothing, Mixup, UserError
from regathlon_core.functional import label_smoothing
from regathlon_core.testing import ToyImages


@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_distribution_by_loops(shape: tuple[int, ...], smoothing: float) -> None:
    targets = torch.randint(5, shape, generator=torch.Generator().manual_seed(0))
    soft = label_smoothing(targets, 5, smoothing)
    assert soft.shape == (shape[0], 5, *shape[1:])
    for position in torch.cartesian_prod(*map(torch.arange, shape)).view(-1, len(shape)).tolist():
        for k in range(5):
            own = int(targets[tuple(position)]) == k
            expected = smoothing / 5 + (1 - smoothing if own else 0)
            assert float(soft[(position[0], k, *position[1:])]) == pytest.approx(expected, abs=1e-6)


def test_the_tasks_loss_is_that_of_the_distribution() -> None:
    task = ToyImages()
    batch = task.batch("train", torch.arange(10))
    smoothed = LabelSmoothing(smoothing=0.3).transform(task.model(0), batch, task, torch.Generator())
    logits = torch.randn(10, 3)
    expected = F.cross_entropy(logits, label_smoothing(batch.targets, 3, 0.3))
    torch.testing.assert_close(task.criterion(logits, smoothed), expected)
    assert not torch.isclose(expected, task.criterion(logits, batch))


def test_the_optimum_is_the_smoothed_distribution() -> None:
    """What the method is for: a finite minimum, at logits whose softmax is the smoothed label."""
    soft = label_smoothing(torch.tensor([2]), 4, 0.2).double()
    logits = soft.log().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, torch.tensor([2]), label_smoothing=0.2), logits)
    assert float(gradient.abs().max()) < 1e-7


def test_it_replaces_a_tasks_own_smoothing_and_composes_with_mixing() -> None:
    task = ToyImages()
    batch = task.batch("train", torch.arange(4)).replace(smoothing=0.5)
    both = Compose([LabelSmoothing(smoothing=0.2), Mixup(alpha=1.0)])
    changed = both.transform(task.model(0), batch, task, torch.Generator().manual_seed(0))
    assert changed.smoothing == 0.2
    assert changed.mixed is not None


def test_extremes() -> None:
    task = ToyImages()
    batch = task.batch("train", torch.arange(4))
    assert LabelSmoothing(smoothing=0.0).transform(task.model(0), batch, task, torch.Generator()) is batch
    with pytest.raises(UserError, match="smoothing"):
        label_smoothing(batch.targets, 3, 1.0)
