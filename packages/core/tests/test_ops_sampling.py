"""Random draws have the laws they promise and come from their generator alone."""

import math

import pytest
import torch
from scipy import stats

from regathlon_core.ops.sampling import sample_bernoulli, sample_beta, sample_permutation, sample_uniform


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("p", [0.0, 1e-4, 0.02, 0.0999, 0.1, 0.7, 1.0])
def test_rate(p: float) -> None:
    drawn = sample_bernoulli((400, 1000), p, generator=seeded())
    assert drawn.dtype == torch.bool
    assert abs(float(drawn.double().mean()) - p) <= 5 * math.sqrt(p * (1 - p) / drawn.numel())


@pytest.mark.parametrize("p", [0.03, 0.4])
def test_draws_are_independent(p: float) -> None:
    """Counts per row are binomial, also in their variance, and neighbours are uncorrelated."""
    rows, columns = 4000, 250
    drawn = sample_bernoulli((rows, columns), p, generator=seeded(1)).double()
    variance = float(drawn.sum(dim=1).var())
    expected = columns * p * (1 - p)
    assert abs(variance - expected) <= 5 * expected * math.sqrt(2 / (rows - 1)) * 1.1
    both = float((drawn[:, 1:] * drawn[:, :-1]).mean())
    # Overlapping pairs are not independent; counting each as worth a third of a pair bounds the spread.
    assert abs(both - p * p) <= 5 * math.sqrt(3 * p * p / (rows * (columns - 1)))


@pytest.mark.parametrize("p", [0.05, 0.5])
def test_bernoulli_takes_a_tensor_and_comes_from_its_generator(p: float) -> None:
    state = torch.get_rng_state()
    first = sample_bernoulli((50, 60), p, generator=seeded(3))
    again = sample_bernoulli((50, 60), torch.tensor(p, dtype=torch.float64), generator=seeded(3))
    other = sample_bernoulli((50, 60), p, generator=seeded(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_bernoulli_of_nothing_and_of_one() -> None:
    assert sample_bernoulli((0, 5), 0.05, generator=seeded()).shape == (0, 5)
    assert bool(sample_bernoulli((), 1.0, generator=seeded()))


@pytest.mark.parametrize(("a", "b"), [(0.2, 0.2), (1.0, 1.0), (2.0, 5.0)])
def test_beta_has_its_law(a: float, b: float) -> None:
    generator = seeded(5)
    drawn = [float(sample_beta(a, b, generator=generator)) for _ in range(2000)]
    assert all(0 <= value <= 1 for value in drawn)
    assert stats.kstest(drawn, stats.beta(a, b).cdf).pvalue > 1e-6


def test_beta_of_tiny_shapes_is_a_number() -> None:
    generator = seeded(6)
    drawn = torch.stack([sample_beta(1e-3, 1e-3, generator=generator) for _ in range(300)])
    assert bool(((drawn >= 0) & (drawn <= 1)).all())


def test_uniform_and_permutation() -> None:
    uniform = sample_uniform((10000,), generator=seeded(7))
    assert stats.kstest(uniform.numpy(), "uniform").pvalue > 1e-6
    order = sample_permutation(20, generator=seeded(8))
    assert sorted(order.tolist()) == list(range(20))
    assert torch.equal(order, sample_permutation(20, generator=seeded(8)))
