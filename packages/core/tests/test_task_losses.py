"""The losses that tasks share, against cross-entropy with soft labels."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from regathlon_core import Batch, Mixed, UserError, stream
from regathlon_core.task import class_loss
from regathlon_core.testing import ToyImages, ToyTokens

POSITIONS = {"samples": (), "points": (7,), "pixels": (5, 4)}


def drawn(positions: tuple[int, ...], ignored: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = stream(0, "loss", len(positions))
    logits = torch.randn(6, 4, *positions, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = [torch.randint(4, (6, *positions), generator=generator) for _ in range(2)]
    for part in labels:
        part[torch.rand(part.shape, generator=generator) < ignored] = 255
    return logits, labels[0], labels[1], torch.rand(6, generator=generator)


def soft_label_loss(logits: Tensor, parts: list[tuple[Tensor, Tensor]], smoothing: float) -> Tensor:
    """Cross-entropy with one soft label per position: the mixed one, smoothed, over what counts."""
    classes = logits.shape[1]
    soft = torch.zeros_like(logits)
    counted = torch.zeros_like(logits[:, 0])
    for labels, share in parts:
        share = share.to(logits.dtype).reshape(-1, *[1] * (labels.ndim - 1)) * (labels != 255)
        one_hot = F.one_hot(labels.where(labels != 255, 0), classes).movedim(-1, 1)
        soft = soft + share[:, None] * ((1 - smoothing) * one_hot + smoothing / classes)
        counted = counted + share
    return -(soft * F.log_softmax(logits, dim=1)).sum() / counted.sum()


@pytest.mark.parametrize("ignored", [0.0, 0.3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixing", [False, True], ids=["own", "mixed"])
@pytest.mark.parametrize("positions", POSITIONS.values(), ids=POSITIONS.keys())
def test_class_loss_is_cross_entropy_with_soft_labels(
    positions: tuple[int, ...], mixing: bool, smoothing: float, ignored: float
) -> None:
    logits, own, partner, weight = drawn(positions, ignored)
    batch = Batch(None, own, smoothing=smoothing, mixed=Mixed(partner, weight) if mixing else None)
    parts = [(own, weight), (partner, 1 - weight)] if mixing else [(own, torch.ones(6))]
    found, wanted = class_loss(logits, batch, ignore_index=255), soft_label_loss(logits, parts, smoothing)
    torch.testing.assert_close(found, wanted)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (found, wanted)]
    torch.testing.assert_close(*gradients)


def test_without_ignored_labels_it_is_torchs_own_with_probabilities() -> None:
    logits, own, partner, weight = drawn((), 0.0)
    soft = weight[:, None] * F.one_hot(own, 4) + (1 - weight[:, None]) * F.one_hot(partner, 4)
    wanted = F.cross_entropy(logits, soft.double(), label_smoothing=0.2)
    batch = Batch(None, own, smoothing=0.2, mixed=Mixed(partner, weight))
    torch.testing.assert_close(class_loss(logits, batch), wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_mixing_with_all_of_one_is_that_one(weight: float) -> None:
    logits, own, partner, _ = drawn((5, 4), 0.3)
    mixed = Batch(None, own, mixed=Mixed(partner, torch.full((6,), weight)))
    plain = Batch(None, own if weight else partner)
    torch.testing.assert_close(
        class_loss(logits, mixed, ignore_index=255), class_loss(logits, plain, ignore_index=255)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_give_a_float32_loss(dtype: torch.dtype) -> None:
    logits = torch.tensor([[30_000.0, 0.0]]).to(dtype).requires_grad_()
    loss = class_loss(logits, Batch(None, torch.tensor([1])))
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == float(logits[0, 0].detach())
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.dtype == dtype


def test_soft_loss_is_the_divergence_from_a_constant_reference() -> None:
    generator = stream(0, "soft")
    outputs = torch.randn(6, 4, 3, generator=generator, requires_grad=True)
    reference = torch.randn(6, 4, 3, generator=generator, requires_grad=True)
    found = ToyImages().soft_loss(outputs, reference)
    wanted = F.kl_div(outputs.log_softmax(1), reference.softmax(1), reduction="sum") / 18
    torch.testing.assert_close(found, wanted)
    found.backward()
    assert outputs.grad is not None
    assert reference.grad is None


def test_what_a_task_does_not_offer_is_said() -> None:
    task: Any = ToyTokens()
    with pytest.raises(UserError, match="sequences/toy does not offer 'occlude'"):
        task.occlude(task.batch("train", torch.arange(2)), torch.zeros(2, 11, dtype=torch.bool))


def test_evaluating_a_split_that_is_not_there_is_said() -> None:
    class NoVal(ToyImages):
        def size(self, split: Any) -> int:
            return 0 if split == "val" else super().size(split)

    task = NoVal()
    with pytest.raises(UserError, match="vision/toy has no val samples"):
        task.evaluate(task.model(0), "val")
