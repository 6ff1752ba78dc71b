"""Mixup: pairs by loops, its loss as a soft-label cross-entropy, the law of its weight."""

import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from regathlon_core import Compose, CutMix, Mixup, UserError
from regathlon_core.functional import mixup
from regathlon_core.regularizers.mixup.functional import sample_mixup
from regathlon_core.testing import ToyImages


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(6, 2, 5), (6, 1, 4, 7), (6, 1, 2, 3, 4)])
def test_equals_loops(shape: tuple[int, ...]) -> None:
    x, targets = torch.randn(shape), torch.arange(6)
    before = x.clone()
    y, mixed = mixup(x, targets, alpha=1.0, generator=seeded(1))
    partner, weight = sample_mixup(6, 1.0, generator=seeded(1))
    assert sorted(partner.tolist()) == list(range(6))
    for i in range(6):
        j, share = int(partner[i]), float(weight)
        torch.testing.assert_close(y[i], share * x[i] + (1 - share) * x[j])
        assert int(mixed.targets[i]) == int(targets[j])
        assert float(mixed.weight[i]) == share
    assert mixed.weight.dtype == torch.float32
    assert torch.equal(x, before)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_law_of_the_weight(alpha: float) -> None:
    generator = seeded(2)
    drawn = [float(sample_mixup(2, alpha, generator=generator)[1]) for _ in range(1500)]
    assert stats.kstest(drawn, stats.beta(alpha, alpha).cdf).pvalue > 1e-6


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_cross_entropy_of_mixed_labels(smoothing: float) -> None:
    task = ToyImages()
    batch = task.batch("train", torch.arange(12))
    mixed = Mixup(alpha=1.0).transform(task.model(0), batch, task, seeded(3)).replace(smoothing=smoothing)
    logits = torch.randn(12, 3, dtype=torch.float64)
    own, other = (F.one_hot(t, 3).double() for t in (mixed.targets, mixed.mixed.targets))
    weight = mixed.mixed.weight.double()[:, None]
    soft = (1 - smoothing) * (weight * own + (1 - weight) * other) + smoothing / 3
    expected = -(soft * logits.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(task.criterion(logits, mixed), expected)
    torch.testing.assert_close(F.cross_entropy(logits, soft), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    x = torch.randn(5, 1, 4, 4, dtype=torch.float64).to(dtype)
    y, _ = mixup(x, torch.arange(5), alpha=1.0, generator=seeded(4))
    partner, weight = sample_mixup(5, 1.0, generator=seeded(4))
    expected = weight.double() * x.double() + (1 - weight.double()) * x.double()[partner]
    assert y.dtype == dtype
    torch.testing.assert_close(
        y.double(), expected, rtol=torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps
    )


def test_extremes() -> None:
    x, targets = torch.randn(3, 1, 4, 4), torch.arange(3)
    y, mixed = mixup(x, targets, alpha=0.0)
    assert y is x
    assert mixed is None
    alone, _ = mixup(x[:1], targets[:1], alpha=1.0)
    torch.testing.assert_close(alone, x[:1])
    with pytest.raises(UserError, match="alpha"):
        mixup(x, targets, alpha=-1.0)


def test_two_that_mix_labels_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"mixup and cutmix cannot be combined.*mix"):
        Compose([Mixup(), CutMix()])


def test_a_task_without_sample_labels_is_refused() -> None:
    from regathlon_core.testing import ToyScenes

    reason = Mixup().settings.refusal(ToyScenes().settings)
    assert reason is not None
    assert "mixup" in reason
    assert "one class label per sample" in reason
