"""Where feature-level regularizers act in models of images, and that nothing else of the model notices."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models import resnet50

from regathlon_core import DropBlock, DropGraph, stream
from regathlon_core.features import hook_point, select_points
from regathlon_core.regularizers.disout.readers import find_readers
from regathlon_core.rng import global_stream
from regathlon_vision import ResNet, UNet, feature_points
from regathlon_vision.models.torchvision import RegNetX200


def placed(model: nn.Module) -> list[str]:
    return [point.name for point in select_points(feature_points(model), ["dropgraph"])]


def test_the_placement_in_resnets_is_both_branches_of_the_last_two_groups() -> None:
    names = placed(resnet50())
    inside = ("relu1", "relu2", "main", "skip")
    blocks = [("layer3", 6), ("layer4", 3)]
    assert names == [
        f"{group}.{n}/{part}" for group, count in blocks for n in range(count) for part in inside
    ]
    assert placed(ResNet(3, 5, width=4)) == [
        f"layer{n}.0/{part}" for n in (2, 3) for part in ("relu1", "main", "skip")
    ]


def test_the_placement_in_regnets_is_the_last_three_blocks_of_the_last_group() -> None:
    inside = ("relu1", "relu2", "main", "skip")
    assert placed(RegNetX200(10)) == [
        f"trunk_output.block4.block4-{n}/{part}" for n in (4, 5, 6) for part in inside
    ]


def test_the_placement_in_unets_is_the_lowest_level() -> None:
    assert placed(UNet(3, 2, width=4, depth=4)) == ["encoder.4/relu1", "encoder.4/relu2"]


def models() -> dict[str, nn.Module]:
    with global_stream(0, "models"):
        return {
            "resnet50": resnet50(num_classes=5),
            "regnet": RegNetX200(5),
            "small": ResNet(3, 5, width=4, blocks=(2, 2)),
            "unet": UNet(3, 5, width=2, depth=2),
        }


@pytest.mark.parametrize("name", ["resnet50", "regnet", "small", "unet"])
def test_places_are_activations_with_the_channels_they_say_and_looking_changes_nothing(name: str) -> None:
    model = models()[name].eval()
    x = torch.randn(2, 3, 64, 64, generator=stream(0, "x"))
    with torch.no_grad():
        plain = model(x)
        seen: dict[str, tuple[int, float]] = {}
        points = select_points(feature_points(model), ["*", "*/*"])
        for point in points:
            hook_point(
                model,
                point,
                lambda module, inputs, features, at=point.name: seen.update(
                    {at: (features.shape[1], float(features.min()))}
                ),
            )
        assert torch.equal(model(x), plain)
    assert {point.name: point.channels for point in points} == {at: found for at, (found, _) in seen.items()}
    assert all(least >= 0 for at, (_, least) in seen.items() if "/relu" in at)
    assert any(least < 0 for at, (_, least) in seen.items() if at.endswith("/main")) or name == "unet"


@pytest.mark.parametrize("name", ["resnet50", "regnet", "small"])
def test_dropping_everything_on_one_branch_leaves_the_other(name: str) -> None:
    """With p=1 at the ends and shortcuts of the last block its output is relu(0), and with one of them the other branch."""
    model = models()[name].eval()
    points = feature_points(model)
    last = next(point.name for point in reversed(points) if "/" not in point.name)
    block = model.get_submodule(last)
    seen: list[torch.Tensor] = []
    block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    x = torch.randn(2, 3, 64, 64, generator=stream(0, "x"))
    for where, zero in (((f"{last}/main", f"{last}/skip"), True), ((f"{last}/skip",), False)):
        regularizer = DropBlock(p=1.0, block_size=1, schedule="constant", where=where)
        regularizer.attach(model, points=points)
        block.train()
        with torch.no_grad():
            model(x)
        regularizer.detach()
        model.eval()
        assert bool((seen.pop() == 0).all()) is zero


def test_a_step_with_dropgraph_at_the_paper_s_places_trains_both_and_leaves_the_model_plain() -> None:
    with global_stream(0, "models"):
        model = ResNet(3, 5, width=4, blocks=(2, 2))
    plain = copy.deepcopy(model)
    regularizer = DropGraph(
        p=0.5, block_size=2, alpha=0.5, schedule="constant", group_rates=(0.25, 1), where=("dropgraph",)
    )
    regularizer.attach(model.train(), points=feature_points(model))
    out = model(torch.randn(4, 3, 12, 12, generator=stream(0, "x")))
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in [*model.parameters(), *regularizer.parameters()])
    regularizer.detach()
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_disout_finds_who_reads_the_places_inside_blocks() -> None:
    """Activations are read by the next convolution; both branches, once added up, by the next block."""
    model = resnet50(num_classes=5)
    points = [point for point in feature_points(model) if point.name.startswith("layer4.1/")]
    with torch.no_grad():
        readers = find_readers(model, points, lambda: model(torch.zeros(2, 3, 32, 32)))
    wanted = {
        "layer4.1/relu1": model.layer4[1].conv2,
        "layer4.1/relu2": model.layer4[1].conv3,
        "layer4.1/main": model.layer4[2].conv1,
        "layer4.1/skip": model.layer4[2].conv1,
    }
    assert {name: reader.weight for name, reader in readers.items()} == {
        name: layer.weight for name, layer in wanted.items()
    }
