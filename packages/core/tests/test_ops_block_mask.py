"""Block masks against explicit loops, the centre-seed construction, and their exact rates."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from regathlon_core import UserError
from regathlon_core.ops.block_mask import (
    block_gamma,
    block_shape,
    dilate_blocks,
    sample_block_mask,
    sample_seeds,
)

GRIDS = [
    ((11,), (4,)),
    ((9,), (9,)),
    ((8, 8), (3, 3)),
    ((8, 8), (4, 4)),
    ((5, 13), (2, 2)),
    ((13, 5), (6, 5)),
    ((3, 7), (3, 7)),
    ((6, 4), (1, 3)),
    ((1, 9), (1, 7)),
    ((5, 4, 6), (2, 3, 5)),
    ((4, 4, 4), (4, 4, 4)),
    ((3, 8, 2), (1, 1, 1)),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blocks_by_loops(seeds: Tensor, block: Sequence[int]) -> Tensor:
    """Return the union of the blocks inside the map, one position at a time."""
    mask = torch.zeros_like(seeds)
    spatial = seeds.shape[1:]
    for index in seeds.nonzero().tolist():
        plane, corner = index[0], index[1:]
        if any(at + side > extent for at, side, extent in zip(corner, block, spatial, strict=True)):
            continue
        for offset in itertools.product(*(range(side) for side in block)):
            mask[(plane, *(at + o for at, o in zip(corner, offset, strict=True)))] = True
    return mask


@pytest.mark.parametrize(("spatial", "block"), GRIDS)
@pytest.mark.parametrize("rate", [0.02, 0.15])
def test_dilation_equals_loops(spatial: tuple[int, ...], block: tuple[int, ...], rate: float) -> None:
    seeds = torch.rand(12, *spatial, generator=seeded()) < rate
    before = seeds.clone()
    assert torch.equal(dilate_blocks(seeds, block), blocks_by_loops(seeds, block))
    assert torch.equal(seeds, before)


def test_dilation_of_seeds_in_any_memory_layout() -> None:
    seeds = (torch.rand(2, 3, 7, 9, generator=seeded()) < 0.1).to(memory_format=torch.channels_last)
    expected = blocks_by_loops(seeds.reshape(6, 7, 9), (3, 4)).view(2, 3, 7, 9)
    assert torch.equal(dilate_blocks(seeds, (3, 4)), expected)
    assert torch.equal(dilate_blocks(seeds.mT, (4, 3)), expected.mT)


@pytest.mark.parametrize("side", [1, 3, 5, 7])
def test_odd_blocks_equal_the_centre_seed_construction(side: int) -> None:
    seeds = torch.zeros(4, 3, 12, 10, dtype=torch.bool)
    grid = torch.rand(4, 3, 13 - side, 11 - side, generator=seeded()) < 0.05
    seeds[..., : 13 - side, : 11 - side] = grid
    centred = F.pad(grid.float(), (side // 2,) * 4)
    pooled = F.max_pool2d(centred, side, stride=1, padding=side // 2)
    assert torch.equal(dilate_blocks(seeds, (side, side)), pooled.bool())


@pytest.mark.parametrize(
    ("spatial", "block_size", "p"),
    [((14, 14), 3, 0.1), ((14, 14), 7, 0.1), ((9, 16), 4, 0.25), ((40,), 6, 0.3), ((6, 5, 7), 2, 0.2)],
)
def test_realised_rates(spatial: tuple[int, ...], block_size: int, p: float) -> None:
    """A position that k blocks can cover is dropped with probability 1-(1-gamma)^k."""
    planes = 20000
    block = block_shape(block_size, spatial)
    gamma = float(block_gamma(p, spatial, block))
    mask = sample_block_mask((planes,), spatial, block_size, p, generator=seeded(2)).double()

    covering = torch.ones((), dtype=torch.float64)
    for extent, side in zip(spatial, block, strict=True):
        counts = [min(at, extent - side) - max(0, at - side + 1) + 1 for at in range(extent)]
        covering = covering.unsqueeze(-1) * torch.tensor(counts, dtype=torch.float64)
    expected = 1 - (1 - gamma) ** covering

    share = mask.flatten(1).mean(dim=1)
    assert abs(float(share.mean() - expected.mean())) <= 5 * float(share.std()) / math.sqrt(planes)
    assert float(share.mean()) < p
    spread = (expected * (1 - expected) / planes).sqrt()
    # One in 1.7 million exceeds 5 sigma at a position; all positions together stay far below one.
    assert bool(((mask.mean(dim=0) - expected).abs() <= 5.5 * spread).all())
    interior = tuple(extent // 2 for extent in spatial)
    if all(2 * side - 1 <= extent for side, extent in zip(block, spatial, strict=True)):
        assert float(expected[interior]) == pytest.approx(1 - (1 - gamma) ** math.prod(block))


def test_a_block_as_large_as_the_map_takes_all_or_nothing() -> None:
    mask = sample_block_mask((2000, 1), (4, 6), 9, 0.3, generator=seeded(3)).flatten(1)
    assert bool((mask.all(dim=1) == mask.any(dim=1)).all())
    rate = float(mask[:, 0].double().mean())
    assert abs(rate - 0.3) <= 5 * math.sqrt(0.3 * 0.7 / 2000)


def test_extremes_and_shapes() -> None:
    assert not sample_block_mask((3, 2), (5, 5), 2, 0.0).any()
    assert sample_block_mask((3, 2), (5, 5), 1, 1.0).all()
    assert sample_block_mask((0, 2), (5, 5), 3, 0.5).shape == (0, 2, 5, 5)
    assert float(block_gamma(torch.tensor(1.0), (4, 4), (4, 4))) == 1.0
    assert block_gamma(1.0, (3, 3), (2, 2)) == pytest.approx(9 / 16)


def test_the_mask_is_the_seeds_dilated() -> None:
    mask = sample_block_mask((4, 3), (9, 7), 4, 0.2, generator=seeded(4))
    seeds = sample_seeds((4, 3), (9, 7), (4, 4), 0.2, generator=seeded(4))
    assert torch.equal(mask, dilate_blocks(seeds, (4, 4)))
    assert not torch.equal(mask, sample_block_mask((4, 3), (9, 7), 4, 0.2, generator=seeded(5)))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(((5, 5), 0, 0.1), "block_size"), (((5, 5), 3, 1.2), "p must"), (((), 3, 0.1), "1, 2 or 3 spatial")],
)
def test_what_is_refused(arguments: tuple[tuple[int, ...], int, float], named: str) -> None:
    with pytest.raises(UserError, match=named):
        sample_block_mask((2, 2), *arguments)
