"""Models of images."""

import pytest
import torch
from torch import nn

from regathlon_core import UserError
from regathlon_vision import ResNet, UNet, UNetSettings, feature_points, output_layers


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
