"""Coloured clouds; flipping curves, occlusion and sparsity on points."""

import math

import pytest
import torch

from regathlon_core import UserError
from regathlon_core.evaluations.channel_sparsity.settings import ChannelSparsitySettings
from regathlon_core.evaluations.flipping.settings import FlippingSettings
from regathlon_core.evaluations.occlusion.settings import OcclusionSettings
from regathlon_core.testing import ToyImages, assert_imports_lightly
from regathlon_points import PointNet, Shapes, ShapesSettings
from regathlon_points.evaluations.relevance_clouds.evaluation import colours, drawn
from regathlon_points.evaluations.relevance_clouds.settings import RelevanceCloudsSettings


@pytest.fixture(scope="module")
def task():
    return Shapes(ShapesSettings(points=48))


@pytest.fixture(scope="module")
def model():
    return PointNet(3, 10, width=0.125).eval()


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (4, 1), (6, 2)])
def test_a_picture_of_clouds(task, model, count, rows):
    (picture,) = (
        RelevanceCloudsSettings(clouds=count).build().run(model, task, generator=generator()).pictures
    )
    assert picture.image.shape == (3, rows * 192, 192 * (4 if count > 0 else count))
    assert picture.image.dtype == torch.uint8
    for n in range(4 * rows):
        tile = picture.image[:, n // 4 * 192 :, n % 4 * 192 :][:, :192, :192]
        assert bool((tile != 255).any()) == (n < count)


def test_points_are_where_they_should_be_and_near_ones_cover_far_ones():
    ink = torch.tensor([[200, 0, 0], [0, 200, 0]], dtype=torch.uint8)
    up = drawn(torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, -1.0]]), ink)
    red, green = (((up == color[:, None, None]).all(0)).nonzero().float().mean(0) for color in ink)
    assert red[0] < 96 < green[0]
    assert float(red[1]) == float(green[1]) == 96
    # Along the line of sight: the second point lies behind the first.
    turn, tilt = math.radians(35), math.radians(25)
    sight = torch.tensor([math.sin(turn) * math.cos(tilt), math.cos(turn) * math.cos(tilt), -math.sin(tilt)])
    covered = drawn(torch.stack([-0.5 * sight, 0.5 * sight], dim=1), ink)
    assert bool((covered == ink[0][:, None, None]).all(0).any())
    assert not bool((covered == ink[1][:, None, None]).all(0).any())
    far = drawn(torch.tensor([[3.0, -40.0], [1.0, 0.0], [0.0, 9.0]]), ink)  # beyond the unit sphere
    assert far.shape == (3, 192, 192)


def test_colours_of_constant_and_single_relevance_are_defined():
    assert colours(torch.zeros(4)).tolist() == [[205, 205, 205]] * 4
    assert colours(torch.full((3,), 2.0)).tolist() == [[220, 20, 20]] * 3
    assert colours(torch.tensor([-1.0])).tolist() == [[20, 20, 220]]


def test_other_modalities_and_numbers_are_refused(model):
    with pytest.raises(UserError, match="no test clouds"):
        RelevanceCloudsSettings().build().run(model, ToyImages(), generator=generator())
    with pytest.raises(UserError):
        RelevanceCloudsSettings(clouds=0)


def test_measures_of_relevance_run_on_points(task, model):
    for settings in (
        FlippingSettings(samples=8, steps=4),
        OcclusionSettings(samples=8, shares=(0.2,)),
        ChannelSparsitySettings(samples=8),
    ):
        assert settings.refusal(task.settings) is None
        metrics = settings.build().run(model, task, generator=generator()).metrics
        assert metrics
        assert all(math.isfinite(value) for value in metrics.values())


def test_the_declaration_imports_nothing_heavy():
    assert_imports_lightly([RelevanceCloudsSettings])
