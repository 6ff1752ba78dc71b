"""MMDetection's detectors as models of our tasks; skipped where MMDetection is not installed."""

import contextlib
import copy
import dataclasses
import importlib.util
import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from regathlon_core import (
    Budget,
    GradAug,
    GradAugSettings,
    PassRole,
    Recipe,
    UserError,
    fit,
    run_as,
    stream,
    subnetwork,
)
from regathlon_core.attribution import lrp
from regathlon_core.engine import Interrupted
from regathlon_core.rng import global_stream
from regathlon_core.testing import Ending, cases, conformance_checks, task_checks
from regathlon_core.testing.cases import shortened
from regathlon_vision.detection import (
    CocoSettings,
    DetectionScenesSettings,
    DetectionScenesTask,
    Images,
    MMDetFasterRCNNSettings,
    MMDetMaskRCNNSettings,
    NucleiSettings,
)
from regathlon_vision.detection.average_precision import whole_image
from regathlon_vision.detection.regions import pooled_boxes
from regathlon_vision.evaluations.detections.settings import DetectionsSettings

if importlib.util.find_spec("mmdet") is None:
    pytest.skip("MMDetection is not installed: regathlon-vision[mmdet]", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("default")  # MMDetection's own warnings are not ours to mend

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from regathlon_vision.detection.mmdet.configs import two_stage_config
    from regathlon_vision.detection.mmdet.detector import _instances, _samples, mmdet_state_dict

    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask  # isort: skip
    from mmdet.registry import MODELS  # isort: skip
    from mmdet.structures.bbox import bbox2roi  # isort: skip
    from mmengine.config import ConfigDict  # isort: skip
    from mmengine.hub import get_config  # isort: skip


@dataclass(frozen=True)
class TinyMaskRCNN(MMDetMaskRCNNSettings):
    depth: int = 18
    width: int = 10
    channels: int = 8
    anchor_scale: int = 2


@dataclass(frozen=True)
class TinyFasterRCNN(MMDetFasterRCNNSettings):
    depth: int = 18
    width: int = 10
    channels: int = 8
    anchor_scale: int = 2


@dataclass(frozen=True)
class Scenes(DetectionScenesSettings):
    """The task as it is, with MMDetection's models alone."""

    models = (TinyMaskRCNN, TinyFasterRCNN)


SMALL = TinyMaskRCNN()
SCENES = Scenes()


@pytest.fixture(scope="module")
def task():
    return SCENES.build()


@pytest.fixture
def model(task):
    with global_stream(0, "init"):
        model = SMALL.build(task)
    with torch.no_grad():  # blocks begin as identities, whose branches would not be seen
        for norm in (part for part in model.modules() if isinstance(part, nn.BatchNorm2d)):
            norm.weight.fill_(1.0)
    return model


@pytest.fixture(scope="module")
def batch(task):
    return task.batch("train", torch.arange(4))


def plain(config):
    """Return a config as data that can be compared."""
    if isinstance(config, dict):
        return {key: plain(value) for key, value in config.items()}
    return [plain(value) for value in config] if isinstance(config, (list, tuple)) else config


# ---- the models are MMDetection's --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (MMDetMaskRCNNSettings(norm="batch"), "mask_rcnn/mask-rcnn"),
        (MMDetFasterRCNNSettings(norm="batch"), "faster_rcnn/faster-rcnn"),
    ],
    ids=str,
)
def test_configs_are_those_of_its_files_but_for_what_is_frozen(settings, name):
    masks = "mask" in name
    ours = plain(two_stage_config(settings, 80, 3, masks=masks))
    theirs = plain(get_config(f"mmdet::{name}_r50_fpn_1x_coco.py").model)
    assert ours["backbone"].pop("frozen_stages") == -1
    assert ours["backbone"].pop("norm_eval") is False
    assert (ours["backbone"].pop("in_channels"), ours["backbone"].pop("base_channels")) == (3, 64)
    for key in ("frozen_stages", "norm_eval", "init_cfg"):
        theirs["backbone"].pop(key)
    for part in ("bbox_roi_extractor", "mask_roi_extractor")[: 1 + masks]:
        assert ours["roi_head"][part]["roi_layer"].pop("use_torchvision")
    del theirs["data_preprocessor"]
    assert theirs.pop("type") == ("MaskRCNN" if masks else "FasterRCNN")
    assert ours == theirs


@pytest.mark.parametrize("settings", [TinyMaskRCNN(), TinyFasterRCNN()], ids=str)
def test_losses_and_detections_are_those_of_its_own_detector(task, settings):
    masks = isinstance(settings, TinyMaskRCNN)
    with global_stream(0, "init"):
        model = settings.build(task)
    config = two_stage_config(settings, len(task.classes), 3, masks=masks)
    twin = MODELS.build(ConfigDict(config, type="MaskRCNN" if masks else "FasterRCNN"))
    twin.load_state_dict(mmdet_state_dict(model))
    plain, odd = task.batch("train", torch.arange(3)), Images.of([torch.randn(3, 24, 32)])
    images = Images.of([*plain.inputs, *odd])  # one of another size
    targets = [*plain.targets, {key: value[:0] for key, value in plain.targets[0].items()}]
    targets[-1]["masks"] = torch.zeros(0, 24, 32, dtype=torch.uint8)
    together = model.transform(images)[0].tensors
    samples = _samples(together, images.sizes)
    for sample, target in zip(samples, targets, strict=True):
        sample.gt_instances = _instances(target, sample.img_shape)
    model.train()
    twin.train()
    with global_stream(1, "sampling"):
        losses = model(images, targets)
    with global_stream(1, "sampling"):
        total, named = twin.parse_losses(twin.loss(together, samples))
    assert set(losses) == {name for name in named if name.startswith("loss_")}
    for name, loss in losses.items():
        assert float(loss.detach()) == pytest.approx(float(named[name].detach()), rel=1e-6), name
    assert float(sum(losses.values()).detach()) == pytest.approx(float(total.detach()), rel=1e-6)
    model.eval()
    twin.eval()
    with torch.no_grad():
        found = model(images)
        wanted = [
            sample.pred_instances for sample in twin.predict(together, _samples(together, images.sizes))
        ]
    assert sum(len(one["boxes"]) for one in found) > 20
    for one, other, size in zip(found, wanted, images.sizes, strict=True):
        assert torch.equal(one["boxes"], other.bboxes)
        assert torch.equal(one["scores"], other.scores)
        assert torch.equal(one["labels"] - 1, other.labels)
        if masks:
            pasted = _do_paste_mask(one["masks"], one["boxes"], *size, skip_empty=False)[0]
            assert torch.equal(pasted >= 0.5, other.masks)
            assert whole_image(one, size, size)["masks"].shape == other.masks.shape


def test_it_keeps_its_weights_under_one_name_each(task, model):
    keys = list(model.state_dict())
    assert len(mmdet_state_dict(model)) == len(keys)
    assert {"backbone.conv1.weight", "neck.lateral_convs.0.conv.weight"} <= mmdet_state_dict(model).keys()
    assert {"backbone.body.conv1.weight", "backbone.fpn.lateral_convs.0.conv.weight"} <= set(keys)


def test_the_large_one_has_the_weights_of_its_file(task):
    with global_stream(0, "init"):
        model = MMDetMaskRCNNSettings().build(task)
    config = get_config("mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py").model
    config.backbone.init_cfg = None
    del config.data_preprocessor
    config.roi_head.bbox_head.num_classes = config.roi_head.mask_head.num_classes = len(task.classes)
    twin = MODELS.build(config)
    found = {key: value.shape for key, value in mmdet_state_dict(model).items()}
    assert found == {key: value.shape for key, value in twin.state_dict().items()}
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) > 40e6


def test_weights_are_loaded_into_a_backbone_that_rests(task, tmp_path):
    with global_stream(3, "init"):
        pretrained = resnet18()
    path = tmp_path / "resnet18.pt"
    torch.save(pretrained.state_dict(), path)
    model = MMDetMaskRCNNSettings(depth=18, weights=str(path)).build(task).train()
    body = model.backbone.body
    for name, value in body.state_dict().items():
        assert torch.equal(value, pretrained.state_dict()[name])
    trained = {name for name, parameter in body.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith(("conv1", "layer1")) or "bn" in name for name in trained)
    assert "layer2.0.conv1.weight" in trained
    norms = [module for module in body.modules() if isinstance(module, nn.BatchNorm2d)]
    assert not any(norm.training for norm in norms)
    with run_as(model, PassRole.SUB):
        assert all(norm.training and not norm.track_running_stats for norm in norms)


def test_masks_are_learned_from_masks(task, model, batch):
    without = [{key: value for key, value in target.items() if key != "masks"} for target in batch.targets]
    with pytest.raises(UserError, match="take mmdet_faster_rcnn"):
        task.loss(model.train(), batch.replace(targets=without))


def test_images_without_objects_are_learned_from(task, model, batch):
    empty = [
        {key: value if key == "record" else value[:0] for key, value in target.items()}
        for target in batch.targets
    ]
    loss = task.loss(model.train(), batch.replace(targets=empty))
    loss.backward()
    assert torch.isfinite(loss)


def test_losses_in_evaluation_mode_leave_layers_in_it(task, model, batch):
    model.eval()
    before = copy.deepcopy(model.state_dict())
    with global_stream(0, "sampling"):
        loss = task.loss(model, batch)
    assert loss.requires_grad
    assert not any(part.training for part in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


# ---- sub-networks ------------------------------------------------------------------------------------------


def narrower(task, model, width):
    """Build a network whose backbone has fewer channels, and copy the kept channels into it."""
    with global_stream(1, "init"):
        small = dataclasses.replace(SMALL, width=round(SMALL.width * width)).build(task)
    weights = {}
    for (name, wide), narrow in zip(model.state_dict().items(), small.state_dict().values(), strict=True):
        weights[name] = wide[tuple(slice(side) for side in narrow.shape)]
    small.load_state_dict(weights)
    return small


@pytest.mark.parametrize("part", ["model", "backbone"])
def test_a_narrow_pass_is_that_of_a_narrower_backbone(task, model, batch, part):
    small = narrower(task, model, 0.8)
    changed = {
        name
        for (name, wide), narrow in zip(model.named_parameters(), small.parameters(), strict=True)
        if wide.shape != narrow.shape
    }
    assert changed >= {"backbone.body.conv1.weight", "backbone.fpn.lateral_convs.0.conv.weight"}
    assert not any(name.startswith(("rpn_head.", "roi_head.", "backbone.fpn.fpn_convs")) for name in changed)
    model.train()
    small.train()
    before = copy.deepcopy(model.state_dict())
    narrowed, layers = (model, task.output_layers(model)) if part == "model" else task.narrowed(model)
    with (
        run_as(model, PassRole.SUB),
        subnetwork(narrowed, 0.8, output_layers=layers) as sub,
        global_stream(2, "sampling"),
    ):
        narrow = task.predict(model, batch)
    with run_as(small, PassRole.SUB), global_stream(2, "sampling"):
        wanted = task.predict(small, batch)
    prefix = "backbone." if part == "model" else ""
    assert sub.kept(f"{prefix}body.layer4.1.conv2.weight") == tuple(range(64))
    assert sub.kept(f"{prefix}fpn.lateral_convs.3.conv.weight", axis=1) == tuple(range(64))
    for name, feature in wanted.features.items():
        assert torch.equal(narrow.features[name], feature)
        assert feature.shape[1] == SMALL.channels
    assert torch.equal(narrow.logits, wanted.logits)
    for name, loss in wanted.losses.items():
        assert torch.equal(narrow.losses[name], loss)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} has moved"
    task.criterion(narrow, batch).backward()
    task.criterion(wanted, batch).backward()
    for (name, wide), few in zip(model.named_parameters(), small.named_parameters(), strict=True):
        kept = wide.grad[tuple(slice(side) for side in few[1].shape)]
        assert torch.allclose(kept, few[1].grad, rtol=1e-4, atol=1e-5), name
        assert wide.grad.abs().sum() == pytest.approx(float(kept.abs().sum()), rel=1e-5), name


def test_bottlenecks_have_sub_networks_too(task, batch):
    settings = dataclasses.replace(SMALL, depth=50)
    with global_stream(0, "init"):
        model = settings.build(task).train()
    with global_stream(0, "init"):
        small = dataclasses.replace(settings, width=8).build(task).train()
    shapes = [tuple(parameter.shape) for parameter in small.state_dict().values()]
    part, layers = task.narrowed(model)
    small.load_state_dict(
        {
            name: wide[tuple(slice(side) for side in shape)]
            for (name, wide), shape in zip(model.state_dict().items(), shapes, strict=True)
        }
    )
    with (
        run_as(model, PassRole.SUB),
        subnetwork(part, 0.8, output_layers=layers),
        global_stream(2, "sampling"),
    ):
        narrow = task.predict(model, batch)
    with run_as(small, PassRole.SUB), global_stream(2, "sampling"):
        wanted = task.predict(small, batch)
    assert torch.equal(narrow.logits, wanted.logits)


def test_a_soft_label_is_what_the_full_network_says_of_its_own_boxes(task, model, batch):
    model.train()
    with global_stream(0, "sampling"):
        full = task.predict(model, batch)
    assert torch.equal(full.stages.class_logits(full.features, full.boxes, full.sizes), full.logits)
    assert full.logits.shape == (sum(map(len, full.boxes)), 11)
    view = next(view for view in task.views(batch, stream(0, "views")) if view.batch is not batch)
    aligned = view.align(full)
    with run_as(model, PassRole.SUB), global_stream(0, "sampling"):
        taught = task.predict(model, view.batch)
    loss = task.soft_loss(taught, aligned)
    said = taught.stages.class_logits(taught.features, aligned.boxes, taught.sizes)
    p, q = said.softmax(1), full.logits.softmax(1)
    assert float(loss.detach()) == pytest.approx(float((q * (q / p).log()).sum(1).mean().detach()), rel=1e-4)


# ---- what RelDrop asks -------------------------------------------------------------------------------------


def test_pooled_boxes_are_those_of_its_extractor(model):
    generator = torch.Generator().manual_seed(0)
    levels = [torch.randn(8, 8, 128 // 2**step, 128 // 2**step, generator=generator) for step in range(2, 6)]
    corners = torch.rand(8, 2, 2, generator=generator) * 126
    boxes = torch.cat([corners.amin(1), corners.amax(1) + 1], dim=1)
    wanted = model.roi_head.bbox_roi_extractor(levels, bbox2roi(list(boxes[:, None])))
    found = pooled_boxes(levels, boxes, height=128, size=(7, 7), canonical=(56, 2), aligned=True)
    assert torch.allclose(found, wanted, atol=1e-4)


def test_relevance_of_a_boxs_score_is_conserved(task, model, batch):
    scores, classes = task.explained(batch, stream(0, "box"))
    model.train()
    for _ in range(3):
        task.loss(model, batch)  # statistics of the data
    with run_as(model.double(), PassRole.ATTRIBUTION), torch.no_grad():
        images = batch.inputs.to(torch.float64)
        relevance = lrp(model, images, classes, wrt=task.attributed, forward=scores)
    assert relevance.shape == batch.inputs.padded.shape
    assert torch.allclose(relevance.sum((1, 2, 3)), torch.ones(4, dtype=torch.float64), atol=1e-3)


# ---- tasks and regularizers --------------------------------------------------------------------------------


@pytest.mark.parametrize("check", task_checks(SCENES), ids=str)
def test_the_task_conforms_with_its_models(check):
    check()


@pytest.mark.parametrize("check", conformance_checks(GradAugSettings(n=1, alpha=0.5), [SCENES]), ids=str)
def test_gradaug_conforms_on_them(check):
    check()


@pytest.mark.parametrize("settings", cases(SCENES), ids=str)
def test_every_regularizer_that_torchvisions_take_trains_them(task, settings):
    with global_stream(0, "init"):
        model = SMALL.build(task)
    keys = list(model.state_dict())
    recipe = Recipe(optimizer="adamw", lr=1e-3, batch_size=2, budget=Budget(steps=2))
    result = fit(model, shortened(task, 2), settings.build(), recipe)
    assert math.isfinite(result.history[-1].train_loss)
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_gradaug_resumes_to_the_bit(task, tmp_path, labels):
    recipe = dataclasses.replace(task.settings.recipe, budget=Budget(steps=4), batch_size=2)
    short = copy.copy(task)
    short.evaluation_order = lambda split, batch_size: [torch.arange(1)]

    def train(**keywords):
        with global_stream(0, "init"):
            model = SMALL.build(task)
        with contextlib.suppress(Interrupted):
            fit(model, short, GradAug(n=1, labels=labels), recipe, seed=1, **keywords)
        return model.state_dict()

    whole = train()
    path = tmp_path / "checkpoint.pt"
    half = train(checkpoint=path, observer=Ending(stop=[2]))
    resumed = train(checkpoint=path)
    assert not torch.equal(half["backbone.body.conv1.weight"], whole["backbone.body.conv1.weight"])
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


@pytest.mark.slow
def test_it_learns():
    task = DetectionScenesTask()
    recipe = dataclasses.replace(task.settings.recipe, budget=Budget(steps=64), batch_size=4, eval_every=99)
    with global_stream(0, "init"):
        model = MMDetMaskRCNNSettings(depth=18, width=16, channels=32, anchor_scale=2).build(task)
    short = copy.copy(task)
    short.evaluation_order = lambda split, batch_size: task.evaluation_order(split, 16)[:2]
    last = fit(model, short, recipe=recipe, seed=0).history[-1]
    assert last.train_loss < 2.5  # it begins at 4
    assert last.test["box_ap50"] > 0.01  # 0.046, and 0.1 after 120 steps; untrained 0.000
    assert last.test["mask_ap50"] > 0.003


def test_pictures_show_what_it_finds(task, model):
    evaluation = DetectionsSettings(images=2, score=0.0).build()
    findings = evaluation.run(model, task, generator=stream(0))
    assert [picture.name for picture in findings.pictures] == ["test-0", "test-1"]
    assert findings.metrics["objects"] > 3


@pytest.mark.realdata
@pytest.mark.parametrize(
    "declared", [NucleiSettings(short=96), CocoSettings(source="subset", short=96)], ids=str
)
def test_it_trains_on_files_in_cocos_format(declared):
    root = os.environ.get("REGATHLON_DATA")
    folder = {"dsb2018": "dsb2018", "coco-subset": "coco"}[declared.dataset]
    if not root or not (Path(root) / folder / "annotations").is_dir():
        pytest.skip(f"there is no {folder} under REGATHLON_DATA")
    task = declared.build(Path(root))
    assert {MMDetMaskRCNNSettings, MMDetFasterRCNNSettings} <= set(declared.models)
    with global_stream(0, "init"):
        model = SMALL.build(task)
    recipe = dataclasses.replace(declared.recipe, budget=Budget(steps=2), batch_size=2)
    last = fit(model, shortened(task, 2), GradAug(n=1), recipe).history[-1]
    assert math.isfinite(last.train_loss)
    assert {"box_ap", "mask_ap"} <= last.test.keys()
