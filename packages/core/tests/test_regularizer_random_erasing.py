"""Random Erasing against trying one rectangle after another, one image after another."""

import math
import random

import pytest
import torch
from scipy import stats

from regathlon_core import UserError
from regathlon_core.functional import random_erasing
from regathlon_core.regularizers.random_erasing.functional import sample_random_erasing


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def boxes(mask: torch.Tensor) -> list[tuple[int, int, int, int]]:
    """Return (top, left, height, width) of what is erased in every sample, which must be a rectangle."""
    found = []
    for plane in mask[:, 0]:
        rows, columns = plane.any(dim=1).nonzero().flatten(), plane.any(dim=0).nonzero().flatten()
        if not len(rows):
            continue
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        assert int(plane.sum()) == (bottom - top) * (right - left)
        found.append((top, left, bottom - top, right - left))
    return found


def erase_one_by_one(
    count: int, height: int, width: int, area: tuple[float, float], aspect: tuple[float, float], log: bool
) -> list[tuple[int, int, int, int]]:
    """The reference procedure with Python's random numbers: try, and try again up to a hundred times."""
    rng = random.Random(0)
    found = []
    for _ in range(count):
        for _ in range(100):
            share = rng.uniform(*area) * height * width
            low, high = (math.log(a) for a in aspect) if log else aspect
            ratio = math.exp(rng.uniform(low, high)) if log else rng.uniform(low, high)
            h, w = round(math.sqrt(share * ratio)), round(math.sqrt(share / ratio))
            if 0 < h <= height and 0 < w <= width:
                found.append((rng.randint(0, height - h), rng.randint(0, width - w), h, w))
                break
    return found


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    ("height", "width", "area", "aspect"),
    [
        (32, 32, (0.02, 0.4), (0.3, 1 / 0.3)),
        (20, 45, (0.1, 0.9), (0.2, 3.0)),
        (16, 8, (0.5, 1.0), (0.3, 4.0)),
    ],
)
def test_same_law_as_trying_one_by_one(
    height: int, width: int, area: tuple[float, float], aspect: tuple[float, float], log: bool
) -> None:
    count = 3000
    mask = sample_random_erasing(
        (count, 3, height, width), p=1.0, area=area, aspect=aspect, log_aspect=log, generator=seeded(1)
    )
    ours, theirs = boxes(mask), erase_one_by_one(count, height, width, area, aspect, log)
    assert abs(len(ours) - len(theirs)) <= 5 * math.sqrt(count / 2)
    measures = [lambda box, axis=axis: box[axis] for axis in range(4)]
    measures += [lambda box: box[2] * box[3], lambda box: box[2] / box[3]]
    for measure in measures:
        a, b = [measure(box) for box in ours], [measure(box) for box in theirs]
        assert stats.ks_2samp(a, b).pvalue > 1e-6


@pytest.mark.parametrize("p", [0.05, 0.5])
def test_share_of_images_that_are_erased(p: float) -> None:
    mask = sample_random_erasing((4000, 1, 8, 8), p=p, generator=seeded(2))
    erased = float(mask.flatten(1).any(dim=1).double().mean())
    assert abs(erased - p) <= 5 * math.sqrt(p * (1 - p) / 4000)


@pytest.mark.parametrize("spatial", [(40,), (24, 30), (10, 12, 9)])
def test_erased_share_in_every_dimension(spatial: tuple[int, ...]) -> None:
    """Area is uniform between its bounds, up to rounding sides to whole positions."""
    area = (0.1, 0.3)
    mask = sample_random_erasing(
        (2000, 1, *spatial), p=1.0, area=area, aspect=(0.8, 1.25), generator=seeded(3)
    )
    share = mask.double().flatten(1).mean(dim=1)
    shortest = (math.prod(spatial) * area[0]) ** (1 / len(spatial)) / 1.25
    rounding = (1 + 0.5 / shortest) ** len(spatial)
    assert area[0] / rounding <= float(share.min()) <= float(share.max()) <= area[1] * rounding
    assert (
        abs(float(share.mean()) - 0.2) <= 5 * float(share.std()) / math.sqrt(2000) + 0.2 * (rounding - 1) / 4
    )


def test_outside_is_untouched_and_inside_is_filled() -> None:
    x = torch.randn(30, 3, 9, 14)
    before = x.clone()
    y = random_erasing(x, p=0.7, fill=5.0, generator=seeded(4))
    where = sample_random_erasing(x.shape, p=0.7, generator=seeded(4)).expand_as(x)
    assert bool((y[where] == 5).all())
    assert torch.equal(y[~where], x[~where])
    assert torch.equal(x, before)


def test_a_rectangle_that_never_fits_leaves_the_image() -> None:
    assert not sample_random_erasing((50, 1, 2, 64), p=1.0, area=(0.3, 0.4), aspect=(20.0, 40.0)).any()


def test_one_pixel_and_thin_images() -> None:
    for size in ((3, 1, 1, 1), (3, 1, 1, 30), (1, 2, 30, 1)):
        assert random_erasing(torch.ones(size), p=1.0).shape == size
    assert sample_random_erasing((200, 1, 1, 30), p=1.0, aspect=(0.02, 0.1), generator=seeded(5)).any()


def test_extremes() -> None:
    x = torch.ones(2, 1, 4, 4)
    assert random_erasing(x, p=0.0) is x
    with pytest.raises(UserError, match="probability"):
        random_erasing(x, p=2.0)
