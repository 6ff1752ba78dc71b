"""Detectors, their sub-networks, and what their second stage says of given boxes."""

import copy
import dataclasses
import importlib
import importlib.util
import re

import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.ops import MultiScaleRoIAlign

from regathlon_core import PassRole, UserError, run_as, stream, subnetwork
from regathlon_core.attribution import lrp
from regathlon_core.rng import global_stream
from regathlon_vision.detection import (
    DetectionScenesTask,
    FasterRCNNSettings,
    FrozenBatchNorm,
    Images,
    MaskRCNNSettings,
    MMDetFasterRCNNSettings,
    MMDetMaskRCNNSettings,
    PaddedImages,
    SmallMaskRCNNSettings,
    load_backbone,
)
from regathlon_vision.detection.regions import pooled_boxes

SMALL = SmallMaskRCNNSettings(width=10, channels=8, proposals=16)


@pytest.fixture(scope="module")
def task():
    return DetectionScenesTask()


@pytest.fixture
def model(task):
    with global_stream(0, "init"):
        return SMALL.build(task)


@pytest.fixture(scope="module")
def batch(task):
    return task.batch("train", torch.arange(4))


def narrower(task, model, width):
    """Build a network whose backbone has fewer channels, and copy the kept channels into it.

    Only the inputs of the pyramid's lateral convolutions change with it: all that follows is the same.
    """
    with global_stream(1, "init"):
        small = dataclasses.replace(SMALL, width=round(SMALL.width * width)).build(task)
    weights = {}
    for (name, wide), narrow in zip(model.state_dict().items(), small.state_dict().values(), strict=True):
        weights[name] = wide[tuple(slice(side) for side in narrow.shape)]
    small.load_state_dict(weights)
    return small


def test_a_narrow_pass_is_that_of_a_narrower_backbone(task, model, batch):
    small = narrower(task, model, 0.8)
    changed = {
        name
        for (name, wide), narrow in zip(model.named_parameters(), small.parameters(), strict=True)
        if wide.shape != narrow.shape
    }
    assert changed >= {"backbone.body.conv1.weight", "backbone.fpn.inner_blocks.0.0.weight"}
    assert not any(name.startswith(("rpn.", "roi_heads.", "backbone.fpn.layer")) for name in changed)
    model.train()
    small.train()
    before = copy.deepcopy(model.state_dict())
    with subnetwork(model, 0.8, output_layers=task.output_layers(model)), global_stream(2, "sampling"):
        narrow = task.predict(model, batch)
    with run_as(small, PassRole.SUB), global_stream(2, "sampling"):
        wanted = task.predict(small, batch)
    for name, feature in wanted.features.items():
        assert torch.equal(narrow.features[name], feature)
        assert feature.shape[1] == SMALL.channels
    assert torch.equal(narrow.logits, wanted.logits)
    for name, loss in wanted.losses.items():
        assert torch.equal(narrow.losses[name], loss)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} has moved"
    backbone, layers = task.narrowed(model)
    with (
        run_as(model, PassRole.SUB),
        subnetwork(backbone, 0.8, output_layers=layers),
        global_stream(2, "sampling"),
    ):
        alone = task.predict(model, batch)
    assert torch.equal(alone.logits, wanted.logits)
    for name, loss in wanted.losses.items():
        assert torch.equal(alone.losses[name], loss)


def test_gradients_of_a_narrow_pass_land_in_the_wide_backbone(task, model, batch):
    small = narrower(task, model, 0.8).train()
    model.train()
    with subnetwork(model, 0.8, output_layers=task.output_layers(model)), global_stream(2, "sampling"):
        task.loss(model, batch).backward()
    with run_as(small, PassRole.SUB), global_stream(2, "sampling"):
        task.loss(small, batch).backward()
    for (name, wide), narrow in zip(model.named_parameters(), small.parameters(), strict=True):
        kept = wide.grad[tuple(slice(side) for side in narrow.shape)]
        assert torch.allclose(kept, narrow.grad, rtol=1e-4, atol=1e-5), name
        assert wide.grad.abs().sum() == pytest.approx(float(kept.abs().sum()), rel=1e-5), name


def test_a_soft_label_is_what_the_full_network_says_of_its_own_boxes(task, model, batch):
    model.train()
    with global_stream(0, "sampling"):
        full = task.predict(model, batch)
    own = full.stages.class_logits(full.features, full.boxes, full.sizes)
    assert torch.equal(own, full.logits)
    view = next(view for view in task.views(batch, stream(0, "views")) if view.batch is not batch)
    aligned = view.align(full)
    assert view.batch.inputs.sizes[0] in ((28, 28), (24, 24))
    scale = view.batch.inputs.sizes[0][0] / 32
    for boxes, moved in zip(full.boxes, aligned.boxes, strict=True):
        assert torch.allclose(boxes * scale, moved)
    with run_as(model, PassRole.SUB), global_stream(0, "sampling"):
        taught = task.predict(model, view.batch)
    loss = task.soft_loss(taught, aligned)
    said = taught.stages.class_logits(taught.features, aligned.boxes, taught.sizes)
    p, q = said.softmax(1), full.logits.softmax(1)
    assert float(loss.detach()) == pytest.approx(float((q * (q / p).log()).sum(1).mean().detach()), rel=1e-4)


@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
def test_pooled_boxes_are_those_of_roi_align(ratio):
    generator = torch.Generator().manual_seed(ratio)
    features = {
        name: torch.randn(6, 5, 48 // 2**at, 64 // 2**at, generator=generator)
        for at, name in enumerate("ab", 1)
    }
    corners = torch.rand(6, 2, 2, generator=generator) * torch.tensor([60.0, 44.0])
    boxes = torch.cat([corners.amin(1), corners.amax(1) + 1], dim=1)
    pool = MultiScaleRoIAlign(["a", "b"], (5, 3), ratio, canonical_scale=20, canonical_level=2)
    wanted = pool(features, list(boxes[:, None]), [(48, 64)] * 6)
    levels = list(features.values())
    found = pooled_boxes(levels, boxes, height=48, size=(5, 3), samples=ratio, canonical=(20, 2))
    assert found.shape == (6, 5, 5, 3)
    assert torch.allclose(found, wanted, atol=1e-4)


def test_relevance_of_a_boxs_score_is_conserved(task, model, batch):
    scores, classes = task.explained(batch, stream(0, "box"))
    assert all(int(label) in target["labels"] for label, target in zip(classes, batch.targets, strict=True))
    with run_as(model.double(), PassRole.ATTRIBUTION), torch.no_grad():
        images = batch.inputs.to(torch.float64)
        relevance = lrp(model, images, classes, wrt=task.attributed, forward=scores)
    assert relevance.shape == batch.inputs.padded.shape
    assert torch.allclose(relevance.sum((1, 2, 3)), torch.ones(4, dtype=torch.float64), atol=1e-3)


def test_an_image_without_objects_is_explained_by_its_background(task, batch):
    target = {name: value[:0] for name, value in batch.targets[0].items() if name != "record"}
    _, classes = task.explained(batch.replace(targets=[target, *batch.targets[1:]]), stream(0, "box"))
    assert classes[0] == 0
    assert classes[1] > 0


# ---- layers ------------------------------------------------------------------------------------------------


def test_frozen_norms_rest_in_full_passes_and_use_the_batch_in_sub_passes():
    norm = FrozenBatchNorm(3)
    norm.running_mean.fill_(2.0)
    net = nn.Sequential(nn.Conv2d(3, 3, 1), norm).train()
    x = torch.randn(4, 3, 5, 5)
    before = copy.deepcopy(net.state_dict())
    full = net(x)
    assert torch.allclose(full, (net[0](x) - 2) / (1 + norm.eps) ** 0.5, atol=1e-6)
    with run_as(net, PassRole.SUB):
        sub = net(x)
    assert sub.mean((0, 2, 3)).abs().max() < 1e-5
    assert not norm.training
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(not parameter.requires_grad for parameter in norm.parameters())


def test_images_are_filled_up_to_what_the_pyramid_divides():
    images = Images.of([torch.ones(3, 20, 33), torch.ones(3, 31, 8)])
    batched, _ = PaddedImages(16)(images)
    assert batched.tensors.shape == (2, 3, 32, 48)
    assert batched.image_sizes == [(20, 33), (31, 8)]
    assert batched.tensors.sum() == 3 * (20 * 33 + 31 * 8)
    assert torch.equal(PaddedImages(16)([images[0], images[1]])[0].tensors, batched.tensors)
    assert int(images.inside().sum()) == 20 * 33 + 31 * 8


def test_weights_are_loaded_into_a_frozen_backbone(task, tmp_path):
    with global_stream(3, "init"):
        pretrained = resnet18()
    path = tmp_path / "resnet18.pt"
    torch.save(pretrained.state_dict(), path)
    settings = MaskRCNNSettings(depth=18, weights=str(path))
    model = settings.build(task)
    body = model.get_submodule("backbone.body")
    for name, value in body.state_dict().items():
        assert torch.equal(value, pretrained.state_dict()[name])
    norms = [module for module in body.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(isinstance(norm, FrozenBatchNorm) for norm in norms)
    trained = {name for name, parameter in body.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith(("conv1", "layer1")) for name in trained)
    assert "layer2.0.conv1.weight" in trained


def test_a_trial_is_known_by_the_contents_of_its_weights(task, tmp_path):
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    torch.save(resnet18().state_dict(), first)
    second.write_bytes(first.read_bytes())
    described = [FasterRCNNSettings(depth=18, weights=str(path)).describe() for path in (first, second)]
    assert described[0] == described[1]
    assert str(tmp_path) not in str(described)
    second.write_bytes(first.read_bytes()[:-1] + b"x")
    assert FasterRCNNSettings(depth=18, weights=str(second)).describe() != described[0]
    with pytest.raises(UserError, match="no such file"):
        FasterRCNNSettings(weights=str(tmp_path / "none.pt")).build(task)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    body = resnet18()
    del body.fc
    path = tmp_path / "weights.pt"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="cannot be read"):
        load_backbone(body, path)
    state = resnet18().state_dict()
    torch.save({"model": {"module." + name: value for name, value in state.items()}}, path)
    load_backbone(body, path)
    torch.save({name: value for name, value in state.items() if name != "conv1.weight"}, path)
    with pytest.raises(UserError, match=r"lack 'conv1\.weight'"):
        load_backbone(body, path)
    torch.save({**state, "conv1.weight": torch.zeros(64, 1, 7, 7)}, path)
    with pytest.raises(UserError, match=r"\(64, 1, 7, 7\), not \(64, 3, 7, 7\)"):
        load_backbone(body, path)


@pytest.mark.parametrize("settings", [{"norm": "frozen"}, {"frozen_stages": 2}], ids=str)
def test_nothing_is_frozen_without_weights(settings):
    with pytest.raises(UserError, match="Without weights"):
        MaskRCNNSettings(**settings)


def test_a_model_that_is_no_detector_says_what_it_lacks(task, batch):
    with pytest.raises(UserError, match=r"ResNet is no detector .* has no method two_stages\(\)"):
        task.loss(resnet18(), batch)


@pytest.mark.parametrize("settings", [MMDetMaskRCNNSettings(depth=18), MMDetFasterRCNNSettings()], ids=str)
def test_without_mmdetection_its_models_say_how_to_get_it(task, settings, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *args: None if name == "mmdet" else found(name, *args)
    )
    wanted = f"{settings.name} needs mmdet, which is not installed: pip install 'regathlon-vision[mmdet]'"
    assert settings.missing() == wanted
    with pytest.raises(UserError, match=re.escape(wanted)):
        settings.build(task)


def test_settings_of_mmdetections_models_are_checked():
    with pytest.raises(UserError, match="width=64, not 32"):
        MMDetMaskRCNNSettings(weights="resnet50.pt", width=32)
    with pytest.raises(UserError, match="anchor_scale must be at least 1"):
        MMDetFasterRCNNSettings(anchor_scale=0)


@pytest.mark.skipif(importlib.util.find_spec("mmdet") is not None, reason="MMDetection is installed")
def test_without_mmdetection_its_hook_says_how_to_get_it():
    with pytest.raises(UserError, match=r"pip install 'regathlon-vision\[mmdet\]'"):
        importlib.import_module("regathlon_vision.detection.mmdet")
