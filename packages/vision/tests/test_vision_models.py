"""Models of images."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from regathlon_core import Batch, DistillationSettings, UserError
from regathlon_vision import (
    ImageNetSettings,
    PyramidNet,
    PyramidNetSettings,
    RegNetX200Settings,
    ResNet,
    ResNet50Settings,
    ResNet110Settings,
    ResNet152Settings,
    UNet,
    UNetSettings,
    WideResNetSettings,
    feature_points,
    output_layers,
)


@pytest.mark.parametrize("side", [(8, 8), (9, 13), (32, 32), (64, 40)])
def test_resnets_take_any_size(side):
    assert ResNet(3, 5, width=4)(torch.zeros(2, 3, *side)).shape == (2, 5)


def test_depth_is_that_of_its_name():
    def layers(blocks):
        main = [
            name
            for name, module in ResNet(3, 10, width=2, blocks=blocks).named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in name
        ]
        return len(main)

    assert [layers((n, n, n)) for n in (1, 3, 9)] == [8, 20, 56]


@pytest.mark.parametrize(
    ("settings", "depth"), [(ResNet50Settings(), 50), (ResNet152Settings(), 152)], ids=str
)
def test_depth_of_bottlenecks_is_that_of_their_name(settings, depth):
    with torch.device("meta"):
        model = settings.build(ColourImages(224))
    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "downsample" not in name
    ]
    assert len(layers) == depth


def test_a_resnet_152_d_may_teach_on_imagenet():
    settings = DistillationSettings(teacher="resnet152(tweaked=true)", weights="resnet152d.pt")
    assert settings.refusal(ImageNetSettings()) is None
    assert settings.teacher_of(ImageNetSettings()) == ResNet152Settings(tweaked=True)


def test_a_block_is_the_identity_where_its_residual_is_zero():
    model = ResNet(3, 5, width=4)
    block = model.layer1[0].eval()
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 4, 6, 6)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("side", [(32, 32), (33, 17), (5, 7), (1, 3)])
@pytest.mark.parametrize("depth", [1, 3])
def test_unets_keep_any_size(side, depth):
    model = UNet(3, 4, width=2, depth=depth).eval()
    assert model(torch.rand(2, 3, *side)).shape == (2, 4, *side)


def test_unet_channels_double_and_skips_are_concatenated():
    model = UNet(3, 4, width=4, depth=3)
    assert [stage.channels for stage in model.encoder] == [4, 8, 16, 32]
    assert [stage.channels for stage in model.decoder] == [16, 8, 4]
    assert [stage[0].in_channels for stage in model.decoder] == [32 + 16, 16 + 8, 8 + 4]


def test_every_level_of_a_unet_reaches_the_output():
    model = UNet(1, 2, width=2, depth=2)
    model(torch.rand(2, 1, 8, 8)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_models_without_blocks_say_what_they_need():
    plain = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(UserError, match=r"Sequential names no feature points.*feature_points\(\)"):
        feature_points(plain)
    assert output_layers(plain) == ("1",)


def test_wrong_depth_is_refused():
    with pytest.raises(UserError, match="depth must be at least 1"):
        UNetSettings(depth=0)


@dataclass
class ColourImages:
    """What a model asks of a task."""

    side: int
    classes: tuple[int, ...] = tuple(range(10))
    in_channels: int = 3

    def batch(self, split, index):
        return Batch(torch.zeros(len(index), 3, self.side, self.side), index)


@pytest.mark.parametrize(
    ("settings", "side", "classes", "millions"),
    [
        # As printed: WRN (its Table 4), PyramidNet (its Table 4), ResNet (its Table 6), RegNet (its Table 10), torchvision.
        (WideResNetSettings(), 32, 10, 36.5),
        (WideResNetSettings(depth=16, widen=8), 32, 10, 11.0),
        (PyramidNetSettings(), 32, 100, 26.8),
        (ResNet110Settings(), 32, 10, 1.7),
        (RegNetX200Settings(), 224, 1000, 2.7),
        (ResNet50Settings(), 224, 1000, 25.6),
        (ResNet50Settings(tweaked=True), 224, 1000, 25.6),
        (ResNet152Settings(), 224, 1000, 60.2),
        (ResNet152Settings(tweaked=True), 224, 1000, 60.2),
    ],
    ids=str,
)
def test_models_have_the_weights_that_are_printed(settings, side, classes, millions):
    # RegNet computes its widths with tensors, so it needs values.
    with torch.device("cpu" if isinstance(settings, RegNetX200Settings) else "meta"):
        model = settings.build(ColourImages(side, tuple(range(classes))))
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize(
    "settings",
    [
        WideResNetSettings(depth=10, widen=1),
        PyramidNetSettings(depth=29, widen=12),
        ResNet50Settings(),
        ResNet50Settings(tweaked=True),
        ResNet50Settings(small_stem=False, tweaked=True),
        ResNet152Settings(tweaked=True),
        RegNetX200Settings(),
    ],
    ids=str,
)
def test_models_take_the_sizes_of_views_and_name_their_points(settings):
    model = settings.build(ColourImages(32)).eval()
    for side in (32, 28, 24):
        assert model(torch.zeros(1, 3, side, side)).shape == (1, 10)
    seen = {}
    found = [point for point in feature_points(model) if point.side == "output"]
    for point in found:
        model.get_submodule(point.module).register_forward_hook(
            lambda module, args, output, name=point.module: seen.update({name: output.shape[1]})
        )
    model(torch.zeros(1, 3, 32, 32))
    assert seen == {point.module: point.channels for point in found}
    assert any(point.default for point in found)
    assert output_layers(model) == ("fc",)


def test_small_images_keep_their_resolution():
    small, large = (ResNet50Settings(tweaked=True).build(ColourImages(side)) for side in (32, 224))
    seen = []
    for model in (small, large):
        model.eval().layer1.register_forward_hook(lambda *call: seen.append(call[-1].shape[-1]))
        model(torch.zeros(1, 3, 64, 64))
    assert seen == [64, 16]


def test_pyramids_grow_in_equal_steps():
    model = PyramidNet(3, 10, depth=29, widen=12)
    inner = [
        block.conv1.out_channels for name in ("layer1", "layer2", "layer3") for block in getattr(model, name)
    ]
    assert inner == [round(16 + 12 * done / 9) for done in range(1, 10)]
    block = model.layer2[0].eval()
    nn.init.zeros_(block.bn4.weight)
    x = torch.rand(1, block.bn1.num_features, 7, 7)
    out = block(x)
    pooled = torch.nn.functional.avg_pool2d(x, 2, ceil_mode=True)
    assert torch.equal(out[:, : x.shape[1]], pooled)
    assert not out[:, x.shape[1] :].any()


@pytest.mark.parametrize(
    ("declaration", "settings", "message"),
    [
        (WideResNetSettings, {"depth": 27}, r"6 n \+ 4, such as 28, not 27"),
        (WideResNetSettings, {"depth": 4}, r"such as 10, not 4"),
        (WideResNetSettings, {"widen": 0}, "widen must be at least 1"),
        (PyramidNetSettings, {"depth": 199}, r"9 n \+ 2, such as 200, not 199"),
    ],
)
def test_wrong_depths_are_refused(declaration, settings, message):
    with pytest.raises(UserError, match=message):
        declaration(**settings)
