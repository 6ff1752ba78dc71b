"""Cutout: squares by loops, their law, sizes beyond the image."""

import math

import pytest
import torch

from regathlon_core import Cutout, UserError
from regathlon_core.functional import cutout
from regathlon_core.ops.sampling import sample_uniform
from regathlon_core.regularizers.cutout.functional import sample_cutout
from regathlon_core.testing import ToyImages


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("height", "width", "length"), [(8, 8, 4), (6, 11, 3), (5, 7, 1), (4, 3, 9)])
def test_equals_loops(height: int, width: int, length: int) -> None:
    x = torch.randn(20, 3, height, width)
    before = x.clone()
    y = cutout(x, length, fill=7.0, generator=seeded(1))
    uniform = sample_uniform((20, 2), generator=seeded(1))
    for image in range(20):
        row, column = int(uniform[image, 0] * height), int(uniform[image, 1] * width)
        top, left = max(0, row - length // 2), max(0, column - length // 2)
        expected = x[image].clone()
        bottom, right = row - length // 2 + length, column - length // 2 + length
        expected[:, top:bottom, left:right] = 7.0
        assert torch.equal(y[image], expected)
    assert torch.equal(x, before)


@pytest.mark.parametrize(("spatial", "length"), [((30,), 8), ((12, 20), 7), ((6, 5, 9), 4)])
def test_share_that_is_hidden(spatial: tuple[int, ...], length: int) -> None:
    """Centres are uniform and independent by axis: the share is the product of mean clipped spans."""
    samples = 6000
    where = sample_cutout((samples, 1, *spatial), length, generator=seeded(2)).double().flatten(1).mean(dim=1)
    expected = 1.0
    for side in spatial:
        starts = [centre - length // 2 for centre in range(side)]
        spans = [min(side, start + length) - max(0, start) for start in starts]
        expected *= sum(spans) / side / side
    assert abs(float(where.mean()) - expected) <= 5 * float(where.std()) / math.sqrt(samples)


def test_images_are_cut_independently() -> None:
    where = sample_cutout((50, 3, 16, 16), 4, generator=seeded(3))
    assert len({tuple(mask.flatten().tolist()) for mask in where}) > 25


def test_a_square_of_twice_the_image_hides_it_all() -> None:
    assert not cutout(torch.ones(9, 1, 5, 4), 10).any()


def test_no_length_is_the_same_tensor() -> None:
    x = torch.ones(2, 1, 4, 4)
    assert cutout(x, 0) is x
    with pytest.raises(UserError, match="length"):
        cutout(x, -1)


@pytest.mark.parametrize(("size", "length"), [(0.5, 5), (0.25, 2), (1.0, 10)])
def test_size_is_a_share_of_the_shortest_side(size: float, length: int) -> None:
    task = ToyImages()  # 12 by 10 pixels
    batch = task.batch("train", torch.arange(8))
    changed = Cutout(size=size, fill=-3.0).transform(task.model(0), batch, task, seeded(4))
    expected = cutout(batch.inputs, length, fill=-3.0, generator=seeded(4))
    assert torch.equal(changed.inputs, expected)
    assert not torch.equal(changed.inputs, batch.inputs)
    assert torch.equal(changed.targets, batch.targets)


def test_a_size_below_one_pixel_changes_nothing() -> None:
    task = ToyImages()
    batch = task.batch("train", torch.arange(4))
    assert Cutout(size=0.04).transform(task.model(0), batch, task, seeded()) is batch
