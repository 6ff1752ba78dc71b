"""Corruptions against their definitions, attacks against their bounds, and what evaluations report."""

import colorsys
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from torch import nn

from regathlon_core import Budget, Recipe, UserError, fit
from regathlon_core.rng import global_stream, stream
from regathlon_vision import DigitsSettings, ResNet8Settings
from regathlon_vision.robustness import filters
from regathlon_vision.robustness.attacks import fgsm, pgd
from regathlon_vision.robustness.constants import ALEXNET_ERRORS, COMMON, EXTRA, LARGE, SMALL
from regathlon_vision.robustness.corruptions import CORRUPTIONS, corrupted
from regathlon_vision.robustness.evaluation import summary
from regathlon_vision.robustness.settings import CorruptionsSettings, FgsmSettings, PgdSettings


def images(*shape, seed=0):
    """Smooth pictures: noise that was blurred and stretched over [0, 1]."""
    noise = torch.rand(shape, generator=stream(seed, "images"))
    smooth = filters.gaussian_blur(noise, 2.0)
    low, high = smooth.amin(), smooth.amax()
    return (smooth - low) / (high - low)


def made(x, name, severity, seed=0):
    return corrupted(x, name, severity, generator=stream(seed, "corruption"))


def test_tables_are_whole():
    assert len(COMMON) == 15
    assert len(EXTRA) == 4
    assert set(CORRUPTIONS) == set(LARGE) == set(SMALL) == {*COMMON, *EXTRA}
    assert all(len(rows) == 5 for table in (LARGE, SMALL) for rows in table.values())
    assert set(ALEXNET_ERRORS) == set(COMMON)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(3, 3, 32, 32), (2, 1, 8, 8), (1, 3, 20, 27)])
def test_every_corruption_keeps_shape_and_range_and_draws_from_its_generator(name, shape):
    x = images(*shape)
    before, state = x.clone(), torch.get_rng_state()
    for severity in (1, 5):
        out = made(x, name, severity)
        assert out.shape == x.shape
        assert out.dtype == torch.float32
        assert 0 <= float(out.min()) <= float(out.max()) <= 1
        assert torch.equal(out, made(x, name, severity))
    assert torch.equal(x, before)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    "name", ["gaussian_noise", "defocus_blur", "motion_blur", "contrast", "jpeg_compression"]
)
def test_higher_severities_change_more(name):
    x = images(8, 3, 80, 80)  # large ones, so that the severities of ImageNet-C apply
    distances = [float((made(x, name, severity) - x).square().mean()) for severity in (1, 3, 5)]
    assert distances == sorted(distances)
    assert distances[0] > 0


@pytest.mark.parametrize(("name", "share"), [("gaussian_noise", 0.08), ("speckle_noise", 0.15)])
def test_noise_has_its_spread(name, share):
    x = torch.full((4, 3, 128, 128), 0.5)
    noise = made(x, name, 1) - x
    wanted = share if name == "gaussian_noise" else share * 0.5
    count = noise.numel()
    assert abs(float(noise.mean())) < 5 * wanted / count**0.5 + 1e-3  # and half a step of rounding
    assert float(noise.std()) == pytest.approx(wanted, abs=5 * wanted / (2 * count) ** 0.5 + 1e-3)


def test_shot_noise_counts_photons():
    x = torch.full((4, 3, 128, 128), 0.2)
    out = made(x, "shot_noise", 1)  # 60 photons for white
    assert float(out.mean()) == pytest.approx(0.2, abs=1e-3)
    assert float(out.var()) == pytest.approx(
        0.2 / 60, rel=0.03
    )  # 5 sigma: var's sd is about var · sqrt(2 / 196608)


def test_impulses_are_black_or_white_in_equal_shares():
    x = torch.full((4, 3, 128, 128), 0.5)
    out = made(x, "impulse_noise", 5)
    count, share = out.numel(), 0.27
    for value in (0.0, 1.0):
        found = int((out == value).sum())
        sigma = (count * share / 2 * (1 - share / 2)) ** 0.5
        assert abs(found - count * share / 2) < 5 * sigma


def test_gaussian_blur_is_scipy_s():
    x = images(2, 3, 20, 26)
    for sigma, border in ((0.7, "replicate"), (2.0, "reflect"), (5.0, "circular"), (9.0, "reflect")):
        mode = {"replicate": "nearest", "reflect": "reflect", "circular": "wrap"}[border]
        wanted = ndimage.gaussian_filter(x.double().numpy(), (0, 0, sigma, sigma), mode=mode, truncate=4.0)
        found = filters.gaussian_blur(x.double(), sigma, border=border)
        assert np.abs(found.numpy() - wanted).max() < 1e-12


def test_blurs_keep_flat_images_and_mean():
    flat = torch.full((2, 3, 24, 24), 0.25)
    angle = torch.tensor([30.0, -45.0])
    for out in (
        filters.gaussian_blur(flat, 1.5),
        filters.disk_blur(flat, 3, 0.5),
        filters.motion_blur(flat, 5, 2.0, angle),
        filters.zoomed(flat, 1.3),
    ):
        torch.testing.assert_close(out, flat)


def test_motion_goes_along_the_angle():
    dot = torch.zeros(2, 1, 21, 21)
    dot[:, :, 10, 10] = 1
    out = filters.motion_blur(dot, 3, 2.0, torch.tensor([0.0, 90.0]))
    assert out[0, 0].sum(1).nonzero().flatten().tolist() == [10]  # one row
    assert out[1, 0].sum(0).nonzero().flatten().tolist() == [10]  # one column
    weights = torch.exp(-0.5 * (torch.arange(7) / 2.0) ** 2)
    row = out[0, 0, 10]
    torch.testing.assert_close(row[row > 0].sort(descending=True).values, weights / weights.sum())


def test_brightness_and_saturation_are_those_of_hsv():
    x = images(1, 3, 6, 6)
    for name, change in (
        ("brightness", lambda h, s, v: (h, s, min(v + 0.3, 1))),
        ("saturate", lambda h, s, v: (h, min(s * 2.5 + 0.2, 1), v)),
    ):
        out = made(x, name, 5)
        for row in range(6):
            for column in range(6):
                wanted = colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*x[0, :, row, column].tolist())))
                assert out[0, :, row, column].tolist() == pytest.approx(wanted, abs=0.5 / 255 + 1e-5)
    gray = torch.full((1, 3, 2, 2), 0.5)
    wanted = colorsys.hsv_to_rgb(0, 0.2, 0.5)
    assert made(gray, "saturate", 5)[0, :, 0, 0].tolist() == pytest.approx(wanted, abs=0.5 / 255 + 1e-5)


def test_contrast_shrinks_towards_the_mean_of_each_colour():
    x = images(2, 3, 80, 80)
    mean = x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(made(x, "contrast", 1), mean + 0.4 * (x - mean), atol=0.5 / 255 + 1e-6, rtol=0)


def test_jpeg_is_pil_s():
    x = images(1, 3, 80, 80)
    buffer = io.BytesIO()
    pixels = (x[0] * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=25)
    wanted = torch.from_numpy(np.asarray(Image.open(buffer)).copy()).permute(2, 0, 1).float() / 255
    assert torch.equal(made(x, "jpeg_compression", 1)[0], wanted)


def test_pixels_become_squares():
    x = images(1, 3, 80, 80)
    out = made(x, "pixelate", 5)  # a quarter of the pixels each way
    squares = out.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    assert float((squares - squares.mean(-1, keepdim=True)).abs().max()) < 1e-6
    # Rounded three times: before, and after averaging along each axis.
    torch.testing.assert_close(squares.mean(-1), F.avg_pool2d(x, 4), atol=1.51 / 255, rtol=0)


def test_glass_moves_pixels_and_the_frame_stays():
    x = torch.arange(12 * 12, dtype=torch.float32).reshape(1, 1, 12, 12).expand(2, 3, -1, -1) / 255
    glass = (0.0, 1, 1)
    out = CORRUPTIONS["glass_blur"](x, glass, stream(0, "glass"))
    assert not torch.equal(out, x)
    assert torch.equal(out[:, :, :2], x[:, :, :2])  # only rows after ``reach`` move
    assert set(out.flatten().tolist()) <= set(x.flatten().tolist())
    steps = ((out - x) * 255).round().abs()
    assert float(steps.max()) <= 13 * 11  # along the chain of moves, never beyond the image


def test_elastic_without_waves_is_an_affine_map_and_nothing_is_nothing():
    x = images(2, 3, 33, 40)
    still = CORRUPTIONS["elastic_transform"](x, (0, 0, 0.0), stream(0, "elastic"))
    torch.testing.assert_close(still, x, atol=1e-4, rtol=0)
    rows = torch.linspace(0, 1, 33)[:, None].expand(33, 40).expand(2, 3, -1, -1)
    moved = CORRUPTIONS["elastic_transform"](rows, (0, 0, 1.0), stream(0, "elastic"))[:, :, 5:-5, 5:-5]
    for axis in (2, 3):  # an affine map of a ramp is a ramp: second differences vanish
        assert float(moved.diff(n=2, dim=axis).abs().max()) < 1e-4


def test_clouds_fill_the_range_and_are_rougher_with_less_decay():
    clouds = {decay: filters.plasma(4, 32, 32, decay, stream(0, "plasma")) for decay in (1.3, 3.0)}
    for cloud in clouds.values():
        assert cloud.shape == (4, 1, 32, 32)
        assert float(cloud.amin()) == 0
        assert float(cloud.amax()) == 1
    rough, smooth = (float(clouds[decay].diff(dim=-1).abs().mean()) for decay in (1.3, 3.0))
    assert rough > smooth


def test_wrong_names_and_severities_are_refused():
    x = images(1, 3, 8, 8)
    with pytest.raises(UserError, match=r"no corruption 'fogg'\. Did you mean 'fog'"):
        made(x, "fogg", 1)
    with pytest.raises(UserError, match="from 1 to 5; there is no 6"):
        made(x, "fog", 6)


# ---- attacks -----------------------------------------------------------------------------------------------


def linear(pixels):
    return (pixels * torch.linspace(-1, 1, 12).view(1, 3, 2, 2)).sum((1, 2, 3))


def test_fgsm_moves_every_pixel_by_epsilon_uphill():
    x = 0.2 + 0.6 * torch.rand(5, 3, 2, 2, generator=stream(0, "x"))
    for epsilon in (0.0, 0.05, 0.2):
        out = fgsm(linear, x, epsilon)
        torch.testing.assert_close((out - x).abs(), torch.full_like(x, epsilon), atol=1e-6, rtol=0)
        assert epsilon == 0 or bool((linear(out) > linear(x)).all())
    assert float(fgsm(linear, x, 0.9).min()) >= 0
    assert float(fgsm(linear, x, 0.9).max()) <= 1


def test_pgd_stays_near_and_does_better_than_its_start():
    weights = torch.randn(3 * 36, generator=stream(0, "w"))

    def losses(pixels):
        return torch.sin(3 * pixels.flatten(1) * weights).sum(1)

    x = torch.rand(6, 3, 6, 6, generator=stream(0, "x"))
    out = pgd(losses, x, 0.1, steps=20, step=0.2, generator=stream(0, "pgd"))
    assert float((out - x).abs().max()) <= 0.1 + 1e-6
    assert 0 <= float(out.min()) <= float(out.max()) <= 1
    one = fgsm(losses, x, 0.1)
    assert float(losses(out).mean()) > float(losses(one).mean()) > float(losses(x).mean())
    assert torch.equal(out, pgd(losses, x, 0.1, steps=20, step=0.2, generator=stream(0, "pgd")))


# ---- evaluations -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    task = DigitsSettings().build()
    with global_stream(0, "init"):
        model = ResNet8Settings(width=8).build(task)
    fit(model, task, recipe=Recipe(lr=0.1, batch_size=64, budget=Budget(epochs=6)), seed=0)
    return task, model.eval()


def found(settings, trained, seed=0):
    task, model = trained
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    metrics = settings.build().run(model, task, generator=stream(seed, "evaluation")).metrics
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    return metrics


def test_corruption_errors_of_a_trained_network(trained):
    metrics = found(CorruptionsSettings(), trained)
    assert set(metrics) == {"clean_error", "mean_error", "mce", *COMMON}
    accuracy = trained[0].evaluate(trained[1], "test")["accuracy"]
    assert metrics["clean_error"] == pytest.approx(1 - accuracy)
    assert metrics["mean_error"] == pytest.approx(sum(metrics[name] for name in COMMON) / 15)
    wanted = sum(metrics[name] / ALEXNET_ERRORS[name] for name in COMMON) / 15
    assert metrics["mce"] == pytest.approx(wanted)
    assert metrics["mean_error"] > metrics["clean_error"]
    assert metrics == found(CorruptionsSettings(), trained)


def test_some_corruptions_make_no_mce(trained):
    metrics = found(CorruptionsSettings(only=("fog", "spatter"), severities=(2,), samples=40), trained)
    assert set(metrics) == {"clean_error", "mean_error", "fog", "spatter"}
    assert metrics["clean_error"] * 40 == pytest.approx(round(metrics["clean_error"] * 40))


def test_printed_errors_of_alexnet_are_one():
    assert summary(dict(ALEXNET_ERRORS), (1, 2, 3, 4, 5))["mce"] == pytest.approx(1)
    # GradAug's row of Table 8 of its paper, in percent of AlexNet's errors, averages to the mCE printed there.
    printed = dict(zip(COMMON, (72, 72, 79, 78, 90, 80, 80, 73, 72, 61, 55, 64, 87, 64, 71), strict=True))
    errors = {name: value / 100 * ALEXNET_ERRORS[name] for name, value in printed.items()}
    assert summary(errors, (1, 2, 3, 4, 5))["mce"] == pytest.approx(0.732, abs=0.0005)


@pytest.mark.parametrize(
    "settings", [FgsmSettings(epsilons=(0.0, 0.1, 0.3)), PgdSettings(epsilons=(0.0, 0.1, 0.3))]
)
def test_attacks_lower_accuracy(settings, trained):
    metrics = found(settings, trained)
    assert set(metrics) == {"clean_accuracy", "accuracy_0", "accuracy_0.1", "accuracy_0.3"}
    assert metrics["accuracy_0"] == metrics["clean_accuracy"]
    assert metrics["accuracy_0.3"] < metrics["clean_accuracy"]


def test_pgd_is_no_weaker_than_one_step(trained):
    one, many = (found(kind(epsilons=(0.1,)), trained) for kind in (FgsmSettings, PgdSettings))
    assert many["accuracy_0.1"] <= one["accuracy_0.1"] + 0.05


def test_corrupted_images_are_read_from_folders_and_arrays(trained, tmp_path):
    task, _ = trained
    generator = np.random.default_rng(0)
    for severity in range(1, 6):
        for digit in task.classes:
            folder = tmp_path / "tree" / "fog" / str(severity) / digit
            folder.mkdir(parents=True)
            for at in range(2):
                Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(
                    folder / f"{at}.png"
                )
    (tmp_path / "arrays").mkdir()
    pixels = generator.integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(10).repeat(1)
    np.save(tmp_path / "arrays" / "fog.npy", pixels)
    np.save(tmp_path / "arrays" / "labels.npy", np.tile(labels, 5))

    class Ones(nn.Module):
        """Says 1 of everything, and counts."""

        seen = 0

        def forward(self, x):
            Ones.seen += len(x)
            return F.one_hot(torch.ones(len(x), dtype=torch.int64), 10).float()

    for folder, count in (("tree", 100), ("arrays", 50)):
        Ones.seen = 0
        settings = CorruptionsSettings(only=("fog",), folder=folder)
        metrics = settings.build(tmp_path).run(Ones(), task, generator=stream(0, "x")).metrics
        assert metrics["fog"] == pytest.approx(0.9)
        assert Ones.seen == count + task.size("test")
    with pytest.raises(UserError, match="no such folder"):
        CorruptionsSettings(only=("snow",), folder="tree").build(tmp_path).run(
            Ones(), task, generator=stream(0, "x")
        )


@pytest.mark.parametrize(
    ("declaration", "settings", "message"),
    [
        (CorruptionsSettings, {"only": ("fogg",)}, "Did you mean 'fog'"),
        (CorruptionsSettings, {"severities": (0,)}, "severities are some of 1 to 5"),
        (CorruptionsSettings, {"severities": ()}, "severities are some of 1 to 5"),
        (CorruptionsSettings, {"samples": 5, "folder": "imagenet-c"}, "samples says nothing"),
        (FgsmSettings, {"epsilons": (2.0,)}, r"epsilons are changes of pixels in \[0, 1\]"),
        (FgsmSettings, {"samples": -1}, "samples must be at least 0"),
        (PgdSettings, {"steps": 0}, "steps must be at least 1"),
        (PgdSettings, {"step": 0.0}, "step must be above 0"),
    ],
)
def test_wrong_settings_are_refused(declaration, settings, message):
    with pytest.raises(UserError, match=message):
        declaration(**settings)


def test_tasks_without_pixels_are_refused(trained):
    task, model = trained
    mean = task.pixel_mean
    task.pixel_mean = ()
    try:
        with pytest.raises(UserError, match="does not say how its inputs come from pixels"):
            FgsmSettings().build().run(model, task, generator=stream(0, "x"))
    finally:
        task.pixel_mean = mean
