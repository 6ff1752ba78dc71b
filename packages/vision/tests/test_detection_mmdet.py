"""GradAug in MMDetection; skipped where MMDetection is not installed."""

import copy
import importlib.util
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import ops

from regathlon_core import UserError, stream
from regathlon_core.regularizers.gradaug.functional import sample_widths
from regathlon_data import digit_scenes

if importlib.util.find_spec("mmdet") is None:
    pytest.skip("MMDetection is not installed: regathlon-vision[mmdet]", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("default")  # MMDetection's own warnings are not ours to mend

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from regathlon_vision.detection.mmdet import GradAugHook
    from regathlon_vision.detection.mmdet.hook import output_layers, resized

    from mmengine.config import Config  # isort: skip
    from mmengine.optim import OptimWrapper  # isort: skip
    from mmdet.registry import MODELS  # isort: skip
    from mmdet.utils import register_all_modules  # isort: skip

    register_all_modules()

CONFIG = """
_base_ = "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"
custom_imports = dict(imports=["regathlon_vision.detection.mmdet"], allow_failed_imports=False)
custom_hooks = [dict(type="GradAugHook", n=1, alpha=0.5)]
norm = dict(type="BN", requires_grad=True)
model = dict(
    backbone=dict(depth=18, init_cfg=None, frozen_stages=-1, norm_eval=True, norm_cfg=norm),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=32, num_classes=10),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(num_convs=1, in_channels=16, conv_out_channels=16, num_classes=10),
    ),
)
classes = tuple("0123456789")
root = "{root}/"
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="Resize", scale=(64, 64), keep_ratio=True),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(64, 64), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
common = dict(
    type="CocoDataset", data_root=root, ann_file="scenes.json", data_prefix=dict(img="scenes/"),
    metainfo=dict(classes=classes),
)
train_dataloader = dict(
    _delete_=True, batch_size=2, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(pipeline=train_pipeline, **common),
)
val_dataloader = dict(
    _delete_=True, batch_size=1, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(test_mode=True, pipeline=test_pipeline, **common),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=root + "scenes.json")
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=2, val_interval=2)
optim_wrapper = dict(optimizer=dict(lr=0.005), clip_grad=dict(max_norm=10.0))
param_scheduler = []
randomness = dict(seed=0)
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A config for four scenes of digits in COCO's format."""
    root = tmp_path_factory.mktemp("mmdet")
    scenes = digit_scenes("train", count=4)
    (root / "scenes").mkdir()
    for number, pixels in enumerate(scenes.images):
        Image.fromarray(pixels).save(root / "scenes" / f"{number:06d}.png")
    (root / "scenes.json").write_text(json.dumps(scenes.coco()))
    path = root / "config.py"
    path.write_text(CONFIG.replace("{root}", root.as_posix()))
    return path


@pytest.fixture(scope="module")
def batch(config):
    from mmengine.runner import Runner

    torch.manual_seed(0)
    return next(iter(Runner.build_dataloader(Config.fromfile(config).train_dataloader)))


@pytest.fixture
def model(config):
    torch.manual_seed(0)
    return MODELS.build(Config.fromfile(config).model).train()


def test_a_step_moves_weights_once_and_no_statistics(model, batch):
    hook = GradAugHook(n=2, alpha=0.5)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    steps = []
    optimizer.register_step_post_hook(lambda *_: steps.append(1))
    logged = hook.train_step(model, copy.deepcopy(batch), OptimWrapper(optimizer))
    assert steps == [1]
    assert {"loss", "loss_rpn_cls", "loss_mask", "loss_sub_0", "loss_sub_1"} <= logged.keys()
    assert all(torch.isfinite(value).all() for value in logged.values())
    after = model.state_dict()
    assert list(after) == list(before)
    for name in after:  # norm_eval freezes the statistics of the full network, and sub-networks store none
        if "running" in name or "num_batches" in name:
            assert torch.equal(after[name], before[name]), name
    assert not torch.equal(after["backbone.layer4.1.conv2.weight"], before["backbone.layer4.1.conv2.weight"])


def test_the_step_is_the_sum_of_the_losses_of_full_network_and_sub_networks(model, batch):
    from regathlon_core import PassRole, run_as, subnetwork

    hook = GradAugHook(n=1, alpha=0.5, scales=(0.75,), seed=3)
    twin = copy.deepcopy(model)
    (width,) = sample_widths(1, 0.5, stream(3, "regularizer"))
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    hook.train_step(model, copy.deepcopy(batch), OptimWrapper(optimizer))
    torch.manual_seed(1)
    data = twin.data_preprocessor(copy.deepcopy(batch), True)
    full = twin.parse_losses(twin._run_forward(data, mode="loss"))[0]
    with run_as(twin, PassRole.SUB), subnetwork(twin, width, output_layers=output_layers(twin)):
        sub = twin.parse_losses(twin._run_forward(resized(data, 0.75), mode="loss"))[0]
    (full + sub).backward()
    for (name, moved), plain in zip(model.named_parameters(), twin.parameters(), strict=True):
        wanted = plain.detach() - plain.grad
        assert torch.allclose(moved.detach(), wanted, rtol=1e-3, atol=1e-4), name


def test_no_sub_networks_are_refused():
    with pytest.raises(UserError, match="n must be a whole number of at least 1, not 0"):
        GradAugHook(n=0)


def test_boxes_and_masks_are_resized_with_the_images(model, batch):
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    small = resized(data, 0.75)
    assert small["inputs"].shape[-2:] == (48, 48)
    for old, new in zip(data["data_samples"], small["data_samples"], strict=True):
        assert torch.allclose(new.gt_instances.bboxes, old.gt_instances.bboxes * 0.75)
        assert new.gt_instances.masks.masks.shape[1:] == (48, 48)
        assert new.img_shape == (48, 48)
        assert old.img_shape == (64, 64)
    assert resized(data, 1) is data


def test_gradient_accumulation_is_refused(model, batch):
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=2)
    with pytest.raises(UserError, match="accumulative_counts=1"):
        GradAugHook().train_step(model, batch, wrapper)


def test_operators_are_torchvisions_where_mmcv_has_none():
    module = sys.modules.get("mmcv._ext")
    if type(module).__name__ != "_Operators":
        pytest.skip("mmcv was compiled with its own operators")
    from mmcv.ops import RoIAlign, nms

    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(30, 2, 2, generator=generator) * 20
    boxes = torch.cat([corners.amin(1), corners.amax(1) + 1], dim=1)
    scores = torch.rand(30, generator=generator)
    assert torch.equal(nms(boxes, scores, 0.5)[1], ops.nms(boxes, scores, 0.5))
    features = torch.randn(2, 3, 16, 16, generator=generator, requires_grad=True)
    rois = torch.cat([torch.arange(30)[:, None] % 2, boxes / 2], dim=1)
    pooled = RoIAlign(7, 0.5, sampling_ratio=0)(features, rois)
    wanted = ops.roi_align(features, rois, 7, 0.5, -1, aligned=True)
    assert torch.equal(pooled, wanted)
    weights = torch.randn(pooled.shape, generator=generator)
    own, reference = (torch.autograd.grad((x * weights).sum(), features)[0] for x in (pooled, wanted))
    assert torch.allclose(own, reference, atol=1e-6)
    with pytest.raises(UserError, match="torchvision has no softnms"):
        module.softnms(boxes, scores)


def test_the_documented_command_trains_saves_evaluates_and_resumes(config, tmp_path):
    def run(*options):
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "regathlon_vision.detection.mmdet",
                str(config),
                "--work-dir",
                str(tmp_path),
                *options,
            ],
            capture_output=True,
            text=True,
            check=False,
        )

    first = run("--cfg-options", "train_cfg.max_epochs=1")
    assert first.returncode == 0, first.stderr[-3000:]
    saved = torch.load(tmp_path / "epoch_1.pth", weights_only=False)
    assert "regathlon_gradaug" in saved
    assert not any(name.startswith("detector.") for name in saved["state_dict"])
    second = run("--resume")
    assert second.returncode == 0, second.stderr[-3000:]
    log = second.stdout + second.stderr
    assert "resumed epoch: 1" in log
    assert "loss_sub_0" in log
    assert "bbox_mAP" in log
    assert "segm_mAP" in log
    later = torch.load(tmp_path / "epoch_2.pth", weights_only=False)
    assert not torch.equal(later["regathlon_gradaug"], saved["regathlon_gradaug"])
    assert np.isfinite(float(later["state_dict"]["backbone.conv1.weight"].sum()))
