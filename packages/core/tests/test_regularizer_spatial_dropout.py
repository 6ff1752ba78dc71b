"""SpatialDropout in both readings: what is dropped as a whole, how often, and how that relates to others."""

import math

import pytest
import torch

from regathlon_core import UserError
from regathlon_core.functional import spatial_dropout
from regathlon_core.regularizers.dropblock.functional import sample_drop_block
from regathlon_core.regularizers.spatial_dropout.functional import sample_spatial_dropout


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("spatial", [(9,), (5, 7), (3, 4, 2)])
@pytest.mark.parametrize("mode", ["channel", "position"])
def test_what_is_dropped_as_a_whole(spatial: tuple[int, ...], mode: str) -> None:
    y = spatial_dropout(torch.ones(6, 8, *spatial), 0.3, mode=mode, generator=seeded()).flatten(2)
    if mode == "channel":
        assert torch.equal(y, y[:, :, :1].expand_as(y))
        assert not torch.equal(y, y[:, :1].expand_as(y))
    else:
        assert torch.equal(y, y[:, :1].expand_as(y))
        assert not torch.equal(y, y[:, :, :1].expand_as(y))


@pytest.mark.parametrize("mode", ["channel", "position"])
@pytest.mark.parametrize("p", [0.05, 0.4])
def test_rate_and_scale(mode: str, p: float) -> None:
    size = (200, 60, 8, 7)
    gates = sample_spatial_dropout(size, p, mode=mode, generator=seeded(1)).double()
    assert abs(float(gates.mean()) - p) <= 5 * math.sqrt(p * (1 - p) / gates.numel())
    y = spatial_dropout(torch.ones(2, 60, 8, 7), p, mode=mode, generator=seeded(2))
    torch.testing.assert_close(y[y > 0], torch.full_like(y[y > 0], 1 / (1 - p)))


def test_it_applies_the_mask_it_samples() -> None:
    x = torch.randn(4, 6, 5, 3, requires_grad=True)
    for mode in ("channel", "position"):
        y = spatial_dropout(x, 0.4, mode=mode, generator=seeded(3))
        dropped = sample_spatial_dropout(x.shape, 0.4, mode=mode, generator=seeded(3))
        factor = (~dropped).float().expand_as(x) / 0.6
        torch.testing.assert_close(y, x * factor)
        torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], factor)


def test_positions_are_dropblock_of_block_size_one() -> None:
    size = (5, 6, 9, 11)
    ours = sample_spatial_dropout(size, 0.2, mode="position", generator=seeded(4))
    assert torch.equal(ours, sample_drop_block(size, 0.2, 1, per_channel=False, generator=seeded(4)))


def test_extremes() -> None:
    x = torch.ones(2, 3, 4, 4)
    assert spatial_dropout(x, 0.0) is x
    assert not spatial_dropout(x, 1.0).any()
    with pytest.raises(UserError, match=r"mode.*'chanel'.*'channel'"):
        spatial_dropout(x, 0.5, mode="chanel")
