"""Image operations on batches."""

import math

import pytest
import torch

from regathlon_vision import ops


@pytest.fixture
def images():
    return torch.rand(4, 3, 9, 6, generator=torch.Generator().manual_seed(0))


def test_a_crop_is_each_samples_own_window(images):
    top, left = torch.tensor([0, 1, 4, 2]), torch.tensor([2, 0, 1, 1])
    cut = ops.crop(images, top, left, (5, 4))
    for sample, (row, column) in enumerate(zip(top.tolist(), left.tolist(), strict=True)):
        assert torch.equal(cut[sample], images[sample, :, row : row + 5, column : column + 4])


@pytest.mark.parametrize("border", ["zeros", "edge"])
def test_a_shift_is_a_crop_of_the_padded_image(images, border):
    uniform = torch.rand(4, 2, generator=torch.Generator().manual_seed(1))
    shifted = ops.random_shift(images, uniform, 2, border=border)
    mode = {"zeros": "constant", "edge": "replicate"}[border]
    padded = torch.nn.functional.pad(images, (2,) * 4, mode=mode)
    for sample, (down, right) in enumerate((uniform * 5).int().tolist()):
        assert torch.equal(shifted[sample], padded[sample, :, down : down + 9, right : right + 6])


def test_every_shift_is_equally_likely():
    count = 20000
    uniform = torch.rand(count, 2, generator=torch.Generator().manual_seed(2))
    dot = torch.zeros(count, 1, 5, 5)
    dot[:, :, 2, 2] = 1
    shares = ops.random_shift(dot, uniform, 1).mean(dim=0)[0, 1:4, 1:4]
    tolerance = 5 * math.sqrt(1 / 9 * 8 / 9 / count)
    assert (shares - 1 / 9).abs().max() < tolerance


def test_flips_follow_their_probability(images):
    uniform = torch.tensor([0.1, 0.6, 0.49, 0.5])
    flipped = ops.random_flip(images, uniform)
    assert torch.equal(flipped[[0, 2]], images[[0, 2]].flip(-1))
    assert torch.equal(flipped[[1, 3]], images[[1, 3]])
    assert torch.equal(ops.random_flip(images, uniform, p=0.0), images)


def moved(images, *, scale=1.0, degrees=0.0, shift=(0.0, 0.0), **keywords):
    count = len(images)
    return ops.affine(
        images,
        torch.full((count,), scale),
        torch.full((count,), math.radians(degrees)),
        torch.tensor([shift] * count),
        **keywords,
    )


def test_affine_identity_quarter_turns_and_shifts(images):
    square = images[..., :6, :]
    assert torch.allclose(moved(images), images, atol=1e-5)
    assert torch.allclose(moved(square, degrees=90), square.rot90(1, (-2, -1)), atol=1e-5)
    down_left = moved(images, shift=(2.0, -1.0))
    assert torch.allclose(down_left[..., 2:, :-1], images[..., :-2, 1:], atol=1e-5)
    assert down_left[..., :2, :].abs().max() < 1e-5


def test_affine_magnifies_about_the_centre():
    ramp = torch.arange(9.0).expand(1, 1, 9, 9)
    twice = moved(ramp, scale=2.0, border="border")
    assert torch.allclose(twice[0, 0, 4], 4 + (torch.arange(9.0) - 4) / 2, atol=1e-5)


def test_labels_stay_labels(images):
    labels = (images[:, :1] * 200).to(torch.uint8)
    turned = moved(labels, scale=1.3, degrees=20, mode="nearest", border="reflection")
    assert turned.dtype == torch.uint8
    for before, after in zip(labels, turned, strict=True):
        assert set(after.unique().tolist()) <= set(before.unique().tolist())


@pytest.mark.parametrize("degrees", [0, 90, 180, 270, -90, 450])
def test_quarter_turns_are_exact(images, degrees):
    assert torch.equal(ops.rotate(images, degrees), images.rot90(degrees // 90, (-2, -1)))


def test_small_turns_leave_no_hole(images):
    assert ops.rotate(images + 1, 15).min() >= 1 - 1e-4


def test_rescaling_by_one_returns_the_same_tensor(images):
    assert ops.rescale(images, 1.0) is images


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.6])
def test_rescaled_labels_lie_where_rescaled_images_do(scale):
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    smooth = ops.rescale(ramp, scale)
    nearest = ops.rescale(ramp.long(), scale, mode="nearest")
    assert nearest.shape == smooth.shape
    assert nearest.dtype == torch.int64
    assert (smooth - nearest).abs().max() <= 0.5 + 1e-5


def test_rescaling_never_loses_the_last_pixel():
    assert ops.rescale(torch.zeros(1, 1, 2, 1), 0.1).shape == (1, 1, 1, 1)
