"""Sub-networks of torchvision's models against smaller networks that hold the gathered weights.

The smaller network is made without any interception: every convolution, linear layer and norm of a copy is
replaced by one with fewer channels. Which channels is derived here, from how each architecture is drawn: the
first ones of every layer, except where a list below says otherwise (segments of concatenations, groups,
heads).
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regathlon_core import Budget, Compose, GradAug, Recipe, RelDrop, fit
from regathlon_core.subnetworks import kept_channels, residual_blocks, subnetwork, subnetwork_depth
from regathlon_vision import DigitsSettings

tv = pytest.importorskip("torchvision.models")

Positions = dict[str, tuple[list[int] | None, list[int] | None]]
"""By layer: kept outputs and kept inputs (of a group); None for the first ones."""


class Widths:
    """Rounding for one width."""

    def __init__(self, width: float) -> None:
        self.width = width

    def c(self, channels: int) -> int:
        return kept_channels(channels, self.width)

    def first(self, channels: int, unit: int = 1) -> list[int]:
        """The first channels, in whole units."""
        return list(range(self.c(channels // unit) * unit))

    def segments(self, *sizes: int) -> list[int]:
        kept, start = [], 0
        for size in sizes:
            kept += [start + at for at in self.first(size)]
            start += size
        return kept


def shrunk(model: nn.Module, widths: Widths, positions: Positions, whole: set[str]) -> nn.Module:
    """Return a copy whose layers have fewer channels; layers in ``whole`` keep all outputs."""
    small = copy.deepcopy(model)
    for name, layer in model.named_modules():
        if not isinstance(layer, (nn.Conv2d, nn.Linear, nn.BatchNorm2d)):
            continue
        rows, columns = positions.get(name, (None, None))
        outputs = layer.weight.shape[0]
        rows = rows if rows is not None else list(range(outputs)) if name in whole else widths.first(outputs)
        row_index = torch.tensor(rows)
        made = copy.deepcopy(layer)
        if isinstance(layer, nn.BatchNorm2d):
            tensors = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
            for key, tensor in tensors.items():
                if tensor.dim():
                    getattr(made, key).data = tensor.detach()[row_index]
        else:
            groups, inputs = getattr(layer, "groups", 1), layer.weight.shape[1]
            if columns is None:
                columns = widths.first(inputs) if groups == 1 else list(range(inputs))
            if isinstance(layer, nn.Conv2d):
                made.groups = 1 if groups == 1 else len(rows) * groups // outputs
            made.weight.data = layer.weight.detach()[row_index][:, torch.tensor(columns)]
            if layer.bias is not None:
                made.bias.data = layer.bias.detach()[row_index]
        parent, _, child = name.rpartition(".")
        setattr(small.get_submodule(parent), child, made)
    return small


# ---- what is not simply the first channels, by architecture
# --------------------------------------------------


def image_input(name: str) -> Callable[[nn.Module, Widths], Positions]:
    return lambda model, widths: {name: (None, [0, 1, 2])}


def resnext(model: nn.Module, widths: Widths) -> Positions:
    found: Positions = {"conv1": (None, [0, 1, 2])}
    for name, layer in model.named_modules():
        if name.endswith("conv2"):
            block = name.removesuffix(".conv2")
            kept = widths.first(layer.out_channels, layer.out_channels // 32)
            found |= {f"{block}.{layer}": (kept, None) for layer in ("conv1", "bn1", "conv2", "bn2")}
            found[f"{block}.conv3"] = (None, kept)
    return found


def regnet(model: nn.Module, widths: Widths) -> Positions:
    found: Positions = {"stem.0": (None, [0, 1, 2])}
    for name, layer in model.named_modules():
        if name.endswith("f.b.0"):
            f = name.removesuffix(".b.0")
            kept = widths.first(layer.out_channels, 16)
            found |= {f"{f}.{part}.{at}": (kept, None) for part in "ab" for at in (0, 1)}
            found[f"{f}.c.0"] = (None, kept)
    return found


def densenet(model: nn.Module, widths: Widths) -> Positions:
    found: Positions = {"features.conv0": (None, [0, 1, 2])}
    sizes = [64]
    for block, layers in enumerate((6, 12, 24, 16), start=1):
        for at in range(1, layers + 1):
            layer = f"features.denseblock{block}.denselayer{at}"
            found[f"{layer}.norm1"] = (widths.segments(*sizes), None)
            found[f"{layer}.conv1"] = (None, widths.segments(*sizes))
            sizes = [*sizes, 32]
        kept = widths.segments(*sizes)
        if block < 4:
            found[f"features.transition{block}.norm"] = (kept, None)
            found[f"features.transition{block}.conv"] = (None, kept)
            sizes = [sum(sizes) // 2]
    return found | {"features.norm5": (kept, None), "classifier": (None, kept)}


def shufflenet(model: nn.Module, widths: Widths) -> Positions:
    """Both halves of a stage have c(half) channels; what comes shuffled holds the first 2 c(half)."""
    found: Positions = {"conv1.0": (None, [0, 1, 2])}
    enters = widths.first(24)
    for stage, width in (("stage2", 116), ("stage3", 232), ("stage4", 464)):
        half = widths.first(width // 2)
        for name, layer in getattr(model, stage).named_modules(prefix=stage):
            if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d)):
                found[name] = (half, half if isinstance(layer, nn.Conv2d) and layer.groups == 1 else None)
        found |= {f"{stage}.0.branch1.{at}": (enters, None) for at in (0, 1)}
        found |= {f"{stage}.0.branch1.2": (half, enters), f"{stage}.0.branch2.0": (half, enters)}
        enters = list(range(2 * len(half)))
    return found | {"conv5.0": (None, enters)}


def vgg(model: nn.Module, widths: Widths) -> Positions:
    return {"features.0": (None, [0, 1, 2]), "classifier.0": (None, widths.first(512 * 49, 49))}


def googlenet(model: nn.Module, widths: Widths) -> Positions:
    found: Positions = {"conv1.conv": (None, [0, 1, 2])}
    kept = widths.first(192)
    for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        block = model.get_submodule(f"inception{name}")
        for entry in ("branch1.conv", "branch2.0.conv", "branch3.0.conv", "branch4.1.conv"):
            found[f"inception{name}.{entry}"] = (None, kept)
        lasts = (block.branch1, block.branch2[1], block.branch3[1], block.branch4[1])
        kept = widths.segments(*(last.conv.out_channels for last in lasts))
        if name in ("4a", "4d"):
            found[f"aux{'12'[name == '4d']}.conv.conv"] = (None, kept)
    return found | {
        "fc": (None, kept),
        "aux1.fc1": (None, widths.first(2048, 16)),
        "aux2.fc1": (None, widths.first(2048, 16)),
    }


def _vgg11_bn() -> nn.Module:
    model = tv.VGG(nn.Identity(), num_classes=7, init_weights=False)
    from torchvision.models.vgg import cfgs, make_layers

    model.features = make_layers(cfgs["A"], batch_norm=True)
    for at, (inputs, outputs) in {0: (512 * 49, 20), 3: (20, 30), 6: (30, 7)}.items():
        model.classifier[at] = nn.Linear(inputs, outputs)
    return model


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module, Widths], Positions], set[str]]] = {
    "resnet18": (tv.resnet18, image_input("conv1"), {"fc"}),
    "resnet50": (tv.resnet50, image_input("conv1"), {"fc"}),
    "resnext50_32x4d": (tv.resnext50_32x4d, resnext, {"fc"}),
    "regnet_x_400mf": (tv.regnet_x_400mf, regnet, {"fc"}),
    "densenet121": (tv.densenet121, densenet, {"classifier"}),
    "mobilenet_v2": (tv.mobilenet_v2, image_input("features.0.0"), {"classifier.1"}),
    "efficientnet_b0": (tv.efficientnet_b0, image_input("features.0.0"), {"classifier.1"}),
    "shufflenet_v2_x1_0": (tv.shufflenet_v2_x1_0, shufflenet, {"fc"}),
    "vgg11_bn": (_vgg11_bn, vgg, {"classifier.6"}),
    "googlenet": (
        functools.partial(tv.googlenet, init_weights=False),
        googlenet,
        {"fc", "aux1.fc2", "aux2.fc2"},
    ),
}


def build(make: Callable[[], nn.Module]) -> nn.Module:
    """Return a model in float64 with random statistics and affine parameters, and nothing random in its passes."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make().double()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(torch.rand(module.weight.shape, generator=generator) + 0.5)
                module.bias.copy_(0.2 * torch.randn(module.bias.shape, generator=generator))
                module.running_mean.copy_(0.2 * torch.randn(module.bias.shape, generator=generator))
                module.running_var.copy_(torch.rand(module.bias.shape, generator=generator) + 0.5)
            elif hasattr(module, "p"):  # dropout and stochastic depth
                module.p = 0.0
    return model


def images(size: int = 48) -> Tensor:
    return torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def outputs(out: object) -> list[Tensor]:
    return list(out) if isinstance(out, tuple) else [out]  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("name", "width"), [(name, 0.7) for name in MODELS] + [("resnet50", 0.93), ("densenet121", 0.25)]
)
def test_equals_a_smaller_network(name: str, width: float) -> None:
    make, derive, whole = MODELS[name]
    model, widths, x = build(make), Widths(width), images()
    small = shrunk(model, widths, derive(model, widths), whole)
    before = {key: value.clone() for key, value in model.named_buffers()}
    for training in (False, True):
        model.train(training)
        small.train(training)
        with torch.no_grad(), subnetwork(model, width):
            narrow = outputs(model(x))
        with torch.no_grad():
            expected = outputs(small(x))
        assert len(narrow) == len(expected)
        for left, right in zip(narrow, expected, strict=True):
            scale = right.abs().max()
            torch.testing.assert_close(left / scale, right / scale, rtol=0, atol=1e-12)
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers())


def test_gradients_are_those_of_the_smaller_network() -> None:
    make, derive, whole = MODELS["densenet121"]
    model, widths, x = build(make), Widths(0.7), images(32)
    positions = derive(model, widths)
    small = shrunk(model, widths, positions, whole)
    with subnetwork(model, 0.7):
        model(x).square().sum().backward()
    small(x).square().sum().backward()
    for name in (
        "features.conv0",
        "features.denseblock2.denselayer5.conv1",
        "features.denseblock4.denselayer1.conv2",
    ):
        gradient, expected = model.get_submodule(name).weight.grad, small.get_submodule(name).weight.grad
        columns = positions.get(name, (None, None))[1]
        rows = list(range(expected.shape[0]))
        columns = list(range(expected.shape[1])) if columns is None else columns
        torch.testing.assert_close(
            gradient[rows][:, columns], expected, rtol=1e-8, atol=1e-10 * float(expected.abs().max())
        )
        assert torch.count_nonzero(gradient) == torch.count_nonzero(expected)


def test_densenet_gathers_the_first_channels_of_every_segment() -> None:
    model = build(tv.densenet121)
    with torch.no_grad(), subnetwork(model, 0.5) as sub:
        model(images(32))
    name = "features.denseblock1.denselayer3.conv1.weight"
    assert sub.kept(name, 1) == (*range(32), *range(64, 80), *range(96, 112))


@pytest.mark.parametrize("width", [0.5, 0.75])
def test_vision_transformer_equals_a_smaller_one(width: float) -> None:
    def make(width: float) -> nn.Module:
        heads, hidden, mlp = (kept_channels(size, width) for size in (12, 192, 768))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = tv.VisionTransformer(32, 16, 2, heads, hidden, mlp, num_classes=9).double()
        nn.init.normal_(model.heads.head.weight, generator=torch.Generator().manual_seed(0))
        return model

    model, small, x = make(1.0), make(width), images(32)
    state = {}
    for name, target in small.state_dict().items():
        tensor = model.state_dict()[name]
        if "in_proj" in name:  # [q; k; v], of each the first heads of size 16
            tensor = torch.cat([third[: target.shape[0] // 3] for third in tensor.chunk(3)])
        state[name] = tensor[tuple(slice(size) for size in target.shape)]
    small.load_state_dict(state)
    with subnetwork(model, width):
        torch.testing.assert_close(model(x), small(x), rtol=1e-12, atol=1e-12)
    model.eval()
    with subnetwork(model, 1.0):
        assert torch.equal(model(x), copy.deepcopy(model)(x))


def test_residual_partners_agree_at_every_width() -> None:
    model = tv.resnet50()
    with torch.no_grad():
        for percent in range(25, 100, 5):
            with subnetwork(model.eval(), percent / 100) as sub:
                model(images(32).float()[:1])
            for stage, channels in enumerate((256, 512, 1024, 2048), start=1):
                blocks = [
                    f"layer{stage}.{at}.conv3.weight" for at in range(len(getattr(model, f"layer{stage}")))
                ]
                counts = {
                    len(sub.kept(name) or ()) for name in [*blocks, f"layer{stage}.0.downsample.0.weight"]
                }
                assert counts == {kept_channels(channels, percent / 100)}


@pytest.mark.parametrize(("name", "count"), [("resnet18", 8), ("mobilenet_v2", 10), ("vit", 2)])
def test_depth_of_torchvision_models(name: str, count: int) -> None:
    model = (
        tv.VisionTransformer(32, 16, 2, 3, 12, 24, num_classes=4) if name == "vit" else getattr(tv, name)()
    )
    x = images(32).float()
    blocks = residual_blocks(model, x)
    assert len(blocks) == count
    before = {key: value.clone() for key, value in model.named_buffers()}
    with subnetwork_depth(model, {block.name: False for block in blocks}):
        assert model(x).shape[0] == 4
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers())


# ---- timm's models, of which this project knows nothing -----------------------------------------------------

FIRST_CHANNELS = {  # every layer keeps the first channels: the images' layer, and the layer of the classes
    "resnet18": ("conv1", "fc"),
    "resnet50": ("conv1", "fc"),
    "vgg11_bn": ("features.0", "head.fc"),
    "mobilenetv2_100": ("conv_stem", "classifier"),
    "efficientnet_b0": ("conv_stem", "classifier"),
}


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip(
        "timm", reason="of this package's own test group; the workspace's does without"
    )


def assert_alike(found: Tensor, wanted: Tensor) -> None:
    scale = wanted.abs().max()
    assert scale > 0
    torch.testing.assert_close(found / scale, wanted / scale, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FIRST_CHANNELS)
def test_timm_s_models_equal_smaller_networks(name: str, timm: Any) -> None:
    first, last = FIRST_CHANNELS[name]
    model = build(lambda: timm.create_model(name, num_classes=10)).eval()
    small = shrunk(model, Widths(0.7), {first: (None, [0, 1, 2])}, {last})
    x = images(64)
    with torch.no_grad(), subnetwork(model, 0.7):
        found = model(x)
    with torch.no_grad():
        assert_alike(found, small(x))


def convnext(timm: Any, width: float) -> nn.Module:
    dims = tuple(kept_channels(size, width) for size in (40, 80, 160, 320))
    return timm.create_model("convnext_atto", num_classes=10, dims=dims, depths=(1, 1, 2, 1))


def transformer(timm: Any, width: float) -> nn.Module:
    heads, hidden = kept_channels(12, width), kept_channels(192, width)
    return timm.create_model(
        "vit_tiny_patch16_224", num_classes=10, img_size=64, depth=2, embed_dim=hidden, num_heads=heads
    )


@pytest.mark.parametrize("kind", [convnext, transformer])
def test_timm_s_models_equal_smaller_ones_of_their_kind(kind: Any, timm: Any) -> None:
    model, small = build(lambda: kind(timm, 1.0)).eval(), kind(timm, 0.5).double().eval()
    generator = torch.Generator().manual_seed(0)
    for (
        parameter
    ) in model.parameters():  # timm's begin small: the layers that scale residual branches hide them
        parameter.data.normal_(0.1, 0.1, generator=generator)
    state = {}
    for name, target in small.state_dict().items():
        tensor = model.state_dict()[name]
        if "qkv" in name:  # of each the first heads
            tensor = torch.cat([third[: target.shape[0] // 3] for third in tensor.chunk(3)])
        state[name] = tensor[tuple(slice(size) for size in target.shape)]
    small.load_state_dict(state)
    x = images(64)
    with torch.no_grad(), subnetwork(model, 0.5):
        found = model(x)
    with torch.no_grad():
        assert_alike(found, small(x))


def test_blocks_of_timm_s_models_are_found(timm: Any) -> None:
    model = build(lambda: timm.create_model("resnet18", num_classes=10)).float()
    assert len(residual_blocks(model, images(64).float())) == 8


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100"])
def test_a_step_of_gradaug_and_reldrop_on_timm_s_models(name: str, timm: Any) -> None:
    task = DigitsSettings().build()
    model = timm.create_model(name, num_classes=10, in_chans=1)
    keys, before = list(model.state_dict()), model.get_classifier().weight.detach().clone()
    regularizer = Compose([GradAug(n=2), RelDrop(p=1.0)])
    fit(model, task, regularizer, Recipe(batch_size=8, budget=Budget(steps=1)))
    assert list(model.state_dict()) == keys
    assert not torch.equal(before, model.get_classifier().weight)
