"""The networks: shapes, feature points, and weights from files."""

from types import SimpleNamespace

import pytest
import torch
import torchvision

from regathlon_core import UserError
from regathlon_dg import AlexNetSettings, DigitsNet, DigitsNetSettings, ResNet18Settings, ResNet50Settings
from regathlon_vision import feature_points, output_layers

TASK = SimpleNamespace(classes=tuple("abcdefg"), in_channels=3)


def test_resnet18_is_torchvision_s():
    model = ResNet18Settings().build(TASK)
    other = torchvision.models.resnet18(num_classes=7)
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in other.state_dict().items()
    }
    other.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 40, 40)
    assert torch.equal(model.eval()(x), other.eval()(x))


@pytest.mark.parametrize(
    ("settings", "points"),
    [
        (ResNet18Settings(width=4), ["layer3.0", "layer3.1", "layer4.0", "layer4.1"]),
        (ResNet50Settings(width=4), [f"layer3.{n}" for n in range(6)] + [f"layer4.{n}" for n in range(3)]),
        (DigitsNetSettings(width=4), ["blocks.1", "blocks.2"]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_networks_name_their_feature_points(settings, points):
    model = settings.build(TASK).eval()
    found = [point for point in feature_points(model) if point.default]
    assert [point.name for point in found] == points
    seen = {}
    for point in found:
        model.get_submodule(point.module).register_forward_hook(
            lambda module, inputs, output, name=point.name: seen.update({name: output.shape[1]})
        )
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    assert seen == {point.name: point.channels for point in found}
    assert output_layers(model) == ("fc",)


def test_alexnet():
    with torch.device("meta"):  # 57 million weights that nobody needs
        model = AlexNetSettings().build(TASK).eval()
        shapes = {}
        for point in feature_points(model):
            model.get_submodule(point.module).register_forward_hook(
                lambda module, inputs, output, name=point.name: shapes.update({name: output.shape[1]})
            )
        assert model(torch.empty(2, 3, 64, 64)).shape == (2, 7)
    assert shapes == {point.name: point.channels for point in feature_points(model)}
    assert [point.name for point in feature_points(model) if point.default] == ["features.9", "features.11"]
    assert output_layers(model) == ("classifier.6",)


def test_digitsnet_takes_other_sizes():
    assert DigitsNet(3, 10, width=2)(torch.randn(1, 3, 28, 30)).shape == (1, 10)


def test_weights_come_from_a_file_all_but_the_classifier_s(tmp_path):
    path = tmp_path / "weights.pt"
    source = torchvision.models.resnet18(num_classes=5)
    torch.save(source.state_dict(), path)
    model = ResNet18Settings(weights=str(path)).build(TASK)
    for name, value in source.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(value, model.state_dict()[name])
    assert model.fc.weight.shape == (7, 512)


def test_torch_s_cache_is_looked_into(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"no weights of resnet18 at .*checkpoints/resnet18-\w+\.pth\. Put"):
        ResNet18Settings(weights="imagenet").build(TASK)
    source = torchvision.models.resnet18(num_classes=1000)
    (tmp_path / "checkpoints").mkdir()
    name = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    torch.save(source.state_dict(), tmp_path / "checkpoints" / name)
    model = ResNet18Settings(weights="imagenet").build(TASK)
    assert torch.equal(model.conv1.weight, source.conv1.weight)


def test_wrong_weights_are_named(tmp_path):
    path = tmp_path / "weights.pt"
    with pytest.raises(UserError, match="no weights of resnet18 at"):
        ResNet18Settings(weights=str(path)).build(TASK)
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"weights\.pt: It holds no plain state dict"):
        ResNet18Settings(weights=str(path)).build(TASK)
    torch.save(ResNet18Settings(width=8).build(TASK).state_dict(), path)
    with pytest.raises(UserError, match=r"It has no conv1\.weight of shape \(64, 3, 7, 7\)"):
        ResNet18Settings(weights=str(path)).build(TASK)
    with pytest.raises(UserError, match="width must be at least 1"):
        ResNet18Settings(width=0)


def test_frozen_norm_keeps_its_statistics_and_trains_its_scale():
    model = ResNet18Settings(width=4, freeze_norm=True).build(TASK).train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    model(torch.randn(4, 3, 32, 32)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    assert model.bn1.weight.grad is not None
    assert model.training
    assert not model.bn1.training
