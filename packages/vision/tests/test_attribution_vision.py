"""Relevance through torchvision's models: conserved, and equal to zennit's where that is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from regathlon_core.attribution import Composite, Epsilon, Flat, ZPlus, lrp
from regathlon_core.rng import global_stream


def small_vgg() -> nn.Module:
    """VGG with batch-norm, without its fully connected layers of 120 million numbers."""
    layers = models.vgg.make_layers([8, "M", 16, "M", 512, "M"], batch_norm=True)
    model = models.VGG(layers, 10, init_weights=False)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Sequential(nn.Linear(512, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, 10))
    return model


MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet18": (lambda: models.resnet18(num_classes=10), 32),
    "resnet50": (lambda: models.resnet50(num_classes=10), 32),
    "resnext": (
        lambda: models.ResNet(models.resnet.Bottleneck, [1, 1, 1, 1], 10, groups=8, width_per_group=8),
        32,
    ),
    "vgg_bn": (small_vgg, 32),
    "densenet": (lambda: models.DenseNet(8, (2, 2), 16, num_classes=10), 32),
    "efficientnet": (lambda: models.efficientnet_b0(num_classes=10), 32),
    "mobilenet_v3": (lambda: models.mobilenet_v3_small(num_classes=10), 32),
    "shufflenet": (lambda: models.shufflenet_v2_x0_5(num_classes=10), 32),
    "convnext": (
        lambda: models.ConvNeXt(
            [models.convnext.CNBlockConfig(8, 16, 1), models.convnext.CNBlockConfig(16, None, 1)],
            num_classes=10,
        ),
        32,
    ),
    "vit": (lambda: models.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=10), 32),
    "swin": (lambda: models.SwinTransformer([4, 4], 16, [1, 2], [2, 4], [4, 4], num_classes=10), 32),
}


def randomised(build: Callable[[], nn.Module], *, biases: bool = True) -> nn.Module:
    """Build a model with random parameters and running statistics, in double precision."""
    generator = torch.Generator().manual_seed(0)
    model = build().double().eval()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        if name.endswith("running_var"):
            tensor.data.uniform_(0.5, 2, generator=generator)
        elif name.endswith("running_mean"):
            tensor.data.normal_(0, 0.5, generator=generator)
        elif name.endswith("bias"):
            tensor.data.normal_(0, 0.1 * biases, generator=generator)
        elif tensor.dim() == 1:
            tensor.data.uniform_(0.5, 1.5, generator=generator)
        else:
            tensor.data.normal_(0, tensor[0].numel() ** -0.5, generator=generator)
    return model


def images(size: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("name", MODELS)
def test_relevance_is_conserved(name: str) -> None:
    build, size = MODELS[name]
    x = images(size)
    relevance = lrp(randomised(build), x, torch.tensor([3, 7]))
    assert relevance.shape == x.shape
    assert float((relevance.sum((1, 2, 3)) - 1).abs().max()) < 1e-6


def test_transformer_without_biases() -> None:
    x = images(32)
    model = randomised(MODELS["vit"][0], biases=False)
    relevance = lrp(model, x, 3)
    assert float((relevance.sum((1, 2, 3)) - 1).abs().max()) < 1e-8


def test_official_map_is_not_conserved() -> None:
    model = randomised(MODELS["resnet18"][0])
    total = lrp(model, images(32), 3, "official_2d").sum((1, 2, 3))
    assert ((total - 1).abs() > 1).all()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("resnet18", {}),
        ("resnet50", {}),
        ("vgg11_bn", {}),
        ("mobilenetv2_100", {}),
        ("efficientnet_b0", {}),
        ("densenet121", {}),
        ("regnetx_002", {}),
        ("convnext_atto", {}),
        ("vit_tiny_patch16_224", {"img_size": 64, "depth": 2}),
    ],
)
def test_relevance_is_conserved_in_timm_s_models(name: str, changes: dict[str, int]) -> None:
    timm = pytest.importorskip(
        "timm", reason="of this package's own test group; the workspace's does without"
    )
    x = images(64)
    model = randomised(lambda: timm.create_model(name, num_classes=10, **changes))
    relevance = lrp(model, x, torch.tensor([3, 7]))
    assert relevance.shape == x.shape
    assert float((relevance.sum((1, 2, 3)) - 1).abs().max()) < 1e-6


# ---- beside zennit, for those who installed it: pip install --no-deps zennit==0.5.1 -------------------

PEER = Composite(linear=Epsilon(1e-6), convolution=ZPlus(1e-6), first=Flat(), epsilon=1e-6)


@pytest.fixture(params=["default", "random"])
def resnet(request: pytest.FixtureRequest) -> nn.Module:
    pytest.importorskip("zennit")
    if request.param == "random":
        return randomised(MODELS["resnet18"][0])
    with global_stream(0, "init"):
        return models.resnet18(num_classes=10).double().eval()


def peer_relevance(
    model: nn.Module, x: Tensor, labels: Tensor, composite: object, *, eps: float | None
) -> Tensor:
    """Return zennit's relevance; ``eps`` replaces what it leaves in merged batch-norms."""
    from zennit.attribution import Gradient

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [module.eps for module in norms]
    with Gradient(model, composite) as attributor:
        if eps is not None:
            for module in norms:
                module.eps = eps
        relevance: Tensor = attributor(x, torch.eye(10, dtype=x.dtype)[labels])[1]
    for module, value in zip(norms, before, strict=True):
        module.eps = value
    return relevance


@pytest.fixture
def leftover(resnet: nn.Module) -> Iterator[nn.Module]:
    """A model whose batch-norms also divide by sqrt(1 + eps), which is what zennit 0.5.1 makes of them."""
    hooks = [
        module.register_forward_hook(lambda module, _, y: y * (1 + module.eps) ** -0.5)
        for module in resnet.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    yield resnet
    for hook in hooks:
        hook.remove()


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def test_equals_zennit_with_exactly_merged_norms(resnet: nn.Module) -> None:
    from zennit.composites import EpsilonPlusFlat
    from zennit.torchvision import ResNetCanonizer

    x, labels = images(64), torch.tensor([3, 7])
    composite = EpsilonPlusFlat(canonizers=[ResNetCanonizer()], zero_params="bias")
    theirs = peer_relevance(resnet, x, labels, composite, eps=0.0)
    assert relative(lrp(resnet, x, labels, PEER), theirs) < 1e-7  # its flat rule is stabilised too
    assert relative(lrp(resnet, x, labels), theirs) < 1e-3  # our default stabiliser is smaller


def test_equals_zennit_as_released_up_to_what_it_leaves_in_norms(leftover: nn.Module) -> None:
    from zennit.composites import EpsilonPlusFlat
    from zennit.torchvision import ResNetCanonizer

    x, labels = images(64), torch.tensor([3, 7])
    ours = lrp(leftover, x, labels, PEER)
    hooks = [module._forward_hooks.copy() for module in leftover.modules()]
    for module in leftover.modules():
        module._forward_hooks.clear()
    composite = EpsilonPlusFlat(canonizers=[ResNetCanonizer()], zero_params="bias")
    theirs = peer_relevance(leftover, x, labels, composite, eps=None)
    assert relative(ours, theirs) < 1e-7
    for module, kept in zip(leftover.modules(), hooks, strict=True):
        module._forward_hooks.update(kept)


def test_official_map_equals_zennit(resnet: nn.Module) -> None:
    from zennit import rules, types
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import SpecialFirstLayerMapComposite

    composite = SpecialFirstLayerMapComposite(
        layer_map=[
            (types.Activation, rules.Pass()),
            (types.BatchNorm, rules.Pass()),
            (types.AvgPool, rules.Norm()),
            (types.Linear, rules.Epsilon(1e-3)),
        ],
        first_map=[(types.Convolution, rules.Flat())],
        canonizers=[SequentialMergeBatchNorm()],
    )
    x, labels = images(64), torch.tensor([3, 7])
    theirs = peer_relevance(resnet, x, labels, composite, eps=0.0)
    assert relative(lrp(resnet, x, labels, "official_2d"), theirs) < 1e-6
