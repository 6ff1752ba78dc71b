"""timm's models, of which this project knows nothing: sub-networks of them, relevance through them, a training step."""

from __future__ import annotations

import pytest
import torch
from test_attribution_vision import images as samples
from test_attribution_vision import randomised
from test_subnetwork_vision import Widths, build, images, shrunk

from regathlon_core import Budget, Compose, DropBlock, GradAug, Recipe, RelDrop, fit
from regathlon_core.attribution import lrp
from regathlon_core.subnetworks import kept_channels, residual_blocks, subnetwork
from regathlon_vision import DigitsSettings

timm = pytest.importorskip("timm")  # of the package's own test group; the workspace's does without

FIRST_CHANNELS = {  # every layer keeps the first channels: the images' layer, and the layer of the classes
    "resnet18": ("conv1", "fc"),
    "resnet50": ("conv1", "fc"),
    "vgg11_bn": ("features.0", "head.fc"),
    "mobilenetv2_100": ("conv_stem", "classifier"),
    "efficientnet_b0": ("conv_stem", "classifier"),
}


def make(name, **changes):
    return timm.create_model(name, num_classes=10, **changes)


def assert_alike(found, wanted):
    scale = wanted.abs().max()
    assert scale > 0
    torch.testing.assert_close(found / scale, wanted / scale, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FIRST_CHANNELS)
def test_sub_networks_equal_smaller_networks(name):
    first, last = FIRST_CHANNELS[name]
    model = build(lambda: make(name)).eval()
    small = shrunk(model, Widths(0.7), {first: (None, [0, 1, 2])}, {last})
    x = images(64)
    with torch.no_grad(), subnetwork(model, 0.7):
        found = model(x)
    with torch.no_grad():
        assert_alike(found, small(x))


def convnext(width):
    dims = tuple(kept_channels(size, width) for size in (40, 80, 160, 320))
    return make("convnext_atto", dims=dims, depths=(1, 1, 2, 1))


def transformer(width):
    heads, hidden = kept_channels(12, width), kept_channels(192, width)
    return make("vit_tiny_patch16_224", img_size=64, depth=2, embed_dim=hidden, num_heads=heads)


@pytest.mark.parametrize("kind", [convnext, transformer])
def test_sub_networks_equal_smaller_networks_of_their_kind(kind):
    model = randomised(lambda: kind(1.0))
    small, x = kind(0.5).double().eval(), images(64)
    state = {}
    for name, target in small.state_dict().items():
        tensor = model.state_dict()[name]
        if "qkv" in name:  # of each the first heads
            tensor = torch.cat([third[: target.shape[0] // 3] for third in tensor.chunk(3)])
        state[name] = tensor[tuple(slice(size) for size in target.shape)]
    small.load_state_dict(state)
    with torch.no_grad(), subnetwork(model, 0.5):
        found = model(x)
    with torch.no_grad():
        assert_alike(found, small(x))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *((name, {}) for name in FIRST_CHANNELS),
        ("densenet121", {}),
        ("regnetx_002", {}),
        ("convnext_atto", {}),
        ("vit_tiny_patch16_224", {"img_size": 64, "depth": 2}),
    ],
)
def test_relevance_is_conserved(name, changes):
    x = samples(64)
    relevance = lrp(randomised(lambda: make(name, **changes)), x, torch.tensor([3, 6]))
    assert relevance.shape == x.shape
    assert float((relevance.sum((1, 2, 3)) - 1).abs().max()) < 1e-6


def test_blocks_that_may_be_left_out_are_found():
    assert len(residual_blocks(build(lambda: make("resnet18")).float(), images(64).float())) == 8


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100"])
def test_a_step_of_gradaug_and_reldrop(name):
    task = DigitsSettings().build()
    model = make(name, in_chans=1)
    keys, before = list(model.state_dict()), model.get_classifier().weight.detach().clone()
    regularizer = Compose([GradAug(n=2), RelDrop(p=1.0)])
    fit(model, task, regularizer, Recipe(batch_size=8, budget=Budget(steps=1)))
    assert list(model.state_dict()) == keys
    assert not torch.equal(before, model.get_classifier().weight)


def test_feature_layers_act_where_they_are_told_to():
    model, x = make("resnet18").train(), images(64).float()
    regularizer = DropBlock(p=0.5, block_size=1, where=("layer3.*",))
    regularizer.attach(model)
    regularizer.after_step(1.0)  # its rate rises from 0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = model(x), model(x)
    assert not torch.equal(first, second)
    regularizer.detach()
    assert torch.equal(model(x), model(x))
