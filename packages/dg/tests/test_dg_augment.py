"""Changes of colour beside torchvision's, image by image."""

import pytest
import torch
from torchvision.transforms import functional as reference

from regathlon_core.rng import stream
from regathlon_dg import augment

IMAGES = torch.rand(9, 3, 5, 7, generator=stream(0, "images"))
FACTORS = torch.rand(9, generator=stream(0, "factors"))


@pytest.mark.parametrize(
    ("ours", "theirs", "amounts"),
    [
        (augment.brightness, reference.adjust_brightness, 2 * FACTORS),
        (augment.contrast, reference.adjust_contrast, 2 * FACTORS),
        (augment.saturation, reference.adjust_saturation, 2 * FACTORS),
        (augment.hue, reference.adjust_hue, FACTORS - 0.5),
    ],
    ids=["brightness", "contrast", "saturation", "hue"],
)
def test_every_image_by_its_own_amount(ours, theirs, amounts):
    images = torch.cat([IMAGES[:7], torch.full((1, 3, 5, 7), 0.3), torch.zeros(1, 3, 5, 7)])
    wanted = torch.stack(
        [theirs(image, float(amount)) for image, amount in zip(images, amounts, strict=True)]
    )
    torch.testing.assert_close(ours(images, amounts), wanted, atol=2e-5, rtol=0)


def test_gray_images():
    chosen = torch.arange(9) % 2 == 0
    found = augment.grayscale(IMAGES, chosen)
    assert torch.equal(found[~chosen], IMAGES[~chosen])
    wanted = reference.rgb_to_grayscale(IMAGES[chosen], num_output_channels=3)
    torch.testing.assert_close(found[chosen], wanted)


def test_the_jitter_goes_as_far_as_it_says():
    uniform = torch.rand(9, 4, generator=stream(0, "uniform"))
    assert torch.allclose(augment.colour_jitter(IMAGES, torch.full((9, 4), 0.5), 0.4), IMAGES, atol=1e-6)
    found = augment.colour_jitter(IMAGES, uniform, 0.4)
    assert bool(((found >= 0) & (found <= 1)).all())
    one = IMAGES[:1]
    for number, change in enumerate((2 * uniform[0] - 1) * 0.4):
        adjust = (
            reference.adjust_brightness,
            reference.adjust_contrast,
            reference.adjust_saturation,
            reference.adjust_hue,
        )[number]
        one = adjust(one, float(change) + (number < 3))
    torch.testing.assert_close(found[:1], one, atol=5e-5, rtol=0)
