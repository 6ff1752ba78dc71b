"""Random numbers that belong to samples are uniform, independent, and functions of what they are named by."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from regathlon_core import SampleDraw, derive_seed, stream
from regathlon_core.rng import global_stream

SAMPLES = 20_000


def uniform(seed: int = 0, epoch: int = 0, purpose: str = "a", count: int = 1, start: int = 0) -> Tensor:
    index = torch.arange(start, start + SAMPLES)
    return SampleDraw(seed, epoch).uniform(index, count, purpose=purpose)


def chi_square_in_sigmas(observed: Tensor, expected: float) -> float:
    """Distance of a chi-square statistic from its mean; its variance is twice the degrees of freedom."""
    freedom = observed.numel() - 1
    statistic = float(((observed - expected) ** 2 / expected).sum())
    return abs(statistic - freedom) / math.sqrt(2 * freedom)


@pytest.mark.parametrize("start", [0, 10**12, -SAMPLES])
def test_uniform_is_uniform(start: int) -> None:
    x = uniform(count=4, start=start)
    assert x.dtype == torch.float32
    assert 0 <= float(x.min()) <= float(x.max()) < 1
    for column in x.unbind(1):
        counts = torch.histc(column, bins=64, min=0, max=1)
        assert chi_square_in_sigmas(counts, SAMPLES / 64) < 5


def test_every_bit_is_fair() -> None:
    bits = (uniform() * 2**24).long()
    for bit in range(24):
        ones = int((bits >> bit & 1).sum())
        assert abs(ones - SAMPLES / 2) < 5 * math.sqrt(SAMPLES) / 2


PAIRS: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
    "neighbouring samples": lambda: (uniform(), uniform(start=1)),
    "positions": lambda: tuple(uniform(count=2).unbind(1)),  # type: ignore[return-value]
    "positions of neighbours": lambda: (uniform(count=2)[:, 1], uniform(start=1)[:, 0]),
    "epochs": lambda: (uniform(epoch=0), uniform(epoch=1)),
    "seeds": lambda: (uniform(seed=0), uniform(seed=1)),
    "purposes": lambda: (uniform(purpose="a"), uniform(purpose="b")),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_numbers_of_different_names_are_independent(pair: Callable[[], tuple[Tensor, Tensor]]) -> None:
    x, y = (part.flatten() for part in pair())
    # Correlation of independent samples has the standard deviation 1/sqrt(n).
    assert abs(float(torch.corrcoef(torch.stack([x, y]))[0, 1])) < 5 / math.sqrt(SAMPLES)
    cells = (x * 8).long() * 8 + (y * 8).long()
    assert chi_square_in_sigmas(torch.bincount(cells, minlength=64).float(), SAMPLES / 64) < 5


def test_a_sample_draws_the_same_in_any_batch() -> None:
    draw = SampleDraw(seed=3, epoch=4)
    index = torch.randperm(500, generator=stream(0, "test"))
    whole = draw.uniform(index, 3, purpose="crop")
    for part, place in zip(index.split(7), torch.arange(500).split(7), strict=True):
        assert torch.equal(draw.uniform(part, 3, purpose="crop"), whole[place])
    assert torch.equal(draw.uniform(index, 5, purpose="crop")[:, :3], whole)
    assert torch.equal(draw.uniform(index.int(), 3, purpose="crop"), whole)
    one = (
        draw.generator(7, purpose="crop"),
        draw.generator(7, purpose="crop"),
        draw.generator(8, purpose="crop"),
    )
    numbers = [torch.rand(4, generator=generator) for generator in one]
    assert torch.equal(numbers[0], numbers[1])
    assert not torch.equal(numbers[0], numbers[2])


@pytest.mark.parametrize("high", [1, 2, 7, 1000])
def test_integers_are_uniform_and_below_the_bound(high: int) -> None:
    x = SampleDraw(0, 0).integers(torch.arange(SAMPLES), high, 2, purpose="place")
    assert x.dtype == torch.int64
    assert 0 <= int(x.min()) <= int(x.max()) == high - 1
    if high > 1:
        counts = torch.bincount(x[:, 0], minlength=high).float()
        assert chi_square_in_sigmas(counts, SAMPLES / high) < 5


def test_seeds_of_purposes_differ_and_fit_a_generator() -> None:
    seeds = {
        derive_seed(seed, purpose, number) for seed in range(10) for purpose in "ab" for number in range(50)
    }
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, "a", "b") != derive_seed(0, "ab")
    assert derive_seed(1, "1") != derive_seed(11, "")
    assert torch.equal(torch.rand(5, generator=stream(0, "x", 1)), torch.rand(5, generator=stream(0, "x", 1)))


def test_the_global_generator_is_lent_and_given_back() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    drawn: list[Tensor] = []

    @global_stream(0, "a")
    def fail() -> None:
        drawn.append(torch.rand(3))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    (first,) = drawn
    assert torch.equal(before, torch.get_rng_state())
    with global_stream(0, "a"):
        assert torch.equal(first, torch.rand(3))
    with global_stream(1, "a"):
        assert not torch.equal(first, torch.rand(3))
