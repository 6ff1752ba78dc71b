"""GradAug as a hook of mmengine's runner."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook  # type: ignore[import-not-found]
from mmengine.model import is_model_wrapper  # type: ignore[import-not-found]
from mmengine.registry import HOOKS  # type: ignore[import-not-found]
from torch import nn

from regathlon_core.errors import UserError
from regathlon_core.passes import PassRole, run_as
from regathlon_core.regularizers.gradaug.functional import sample_widths
from regathlon_core.regularizers.gradaug.settings import GradAugSettings
from regathlon_core.rng import stream
from regathlon_core.subnetworks import subnetwork
from regathlon_vision.detection.task import DetectionTask

_STATE = "regathlon_gradaug"


@HOOKS.register_module()
class GradAugHook(Hook):  # type: ignore[misc]
    """Train a detector with GradAug: in a config, ``custom_hooks = [dict(type="GradAugHook", n=3, alpha=0.9)]``.

    In every step the detector learns from the batch; then ``n`` sub-networks, narrow in the backbone and where it enters the
    neck, learn from the annotated objects of the batch, resized by a random factor each. Losses are backpropagated one
    after another, and the optimizer steps once. Sub-networks normalise by their batch and store no statistics, also where
    ``norm_eval`` freezes those of the full network.

    The model keeps its modules and state-dict keys. The losses of sub-networks are logged as ``loss_sub_0``, ...; the state
    of the random numbers lies in the checkpoint, so that training resumes where it was.

    Source: see ``regathlon_core.GradAug``; for detection GradAug's paper leaves targets and scales open.

    Limits: one process (no distributed wrapper), no gradient accumulation, and the annotated objects as targets.

    Args:
        n: Number of sub-networks in a step, at least 1.
        alpha: Smallest width, in (0, 1].
        scales: Factors that images are resized by.
        seed: Of widths and scales.
    """

    priority = "NORMAL"

    def __init__(
        self,
        n: int = 3,
        alpha: float = 0.9,
        scales: Sequence[float] = DetectionTask.view_scales,
        seed: int = 0,
    ) -> None:
        self.settings = GradAugSettings(n=n, alpha=alpha)
        if not scales or min(scales) <= 0:
            raise UserError(f"scales are factors above 0, not {scales}.")
        self.scales = tuple(scales)
        self.generator = stream(seed, "regularizer")

    def before_train(self, runner: Any) -> None:
        """Take over the model's training step."""
        if is_model_wrapper(runner.model):
            raise UserError("GradAugHook trains in one process: start it without a distributed launcher.")
        runner.model.train_step = lambda data, optim_wrapper: self.train_step(
            runner.model, data, optim_wrapper
        )

    def after_train(self, runner: Any) -> None:
        """Give the model's own training step back."""
        runner.model.__dict__.pop("train_step", None)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Save the state of the random numbers."""
        checkpoint[_STATE] = self.generator.get_state()

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Go on with the saved state of the random numbers."""
        if _STATE in checkpoint:
            self.generator.set_state(checkpoint[_STATE].cpu())

    def train_step(self, model: nn.Module, data: Any, optim_wrapper: Any) -> dict[str, torch.Tensor]:
        """Make one optimizer step; return what is to be logged.

        Args:
            model: An mmdet detector.
            data: What its data loader gives.
            optim_wrapper: mmengine's, around the optimizer.
        """
        detector: Any = model
        if getattr(optim_wrapper, "_accumulative_counts", 1) != 1:
            raise UserError("GradAugHook makes an optimizer step of every batch: set accumulative_counts=1.")
        with optim_wrapper.optim_context(detector):
            data = detector.data_preprocessor(data, True)
            loss, logged = detector.parse_losses(detector._run_forward(data, mode="loss"))
        settings = self.settings
        layers = output_layers(detector)
        widths = sample_widths(settings.n, settings.alpha, self.generator, always_min=settings.always_min)
        for number, width in enumerate(widths):
            optim_wrapper.backward(optim_wrapper.scale_loss(loss))
            drawn = int(torch.randint(len(self.scales), (), generator=self.generator))
            with (
                optim_wrapper.optim_context(detector),
                run_as(detector, PassRole.SUB),
                subnetwork(detector, width, output_layers=layers, defer_gradients=True),
            ):
                losses = detector._run_forward(resized(data, self.scales[drawn]), mode="loss")
            loss, _ = detector.parse_losses(losses)
            logged[f"loss_sub_{number}"] = loss.detach()
        optim_wrapper.update_params(loss)
        return dict(logged)


def output_layers(detector: nn.Module) -> tuple[str, ...]:
    """Return the parts of a detector that keep their outputs: all but the backbone."""
    return tuple(
        name
        for name, part in detector.named_children()
        if name != "backbone" and any(True for _ in part.parameters())
    )


def resized(data: dict[str, Any], factor: float) -> dict[str, Any]:
    """Return preprocessed data with images, boxes and masks resized.

    Args:
        data: ``inputs`` [B, 3, H, W] and ``data_samples`` with ``gt_instances``.
        factor: Above 0; sides are rounded.
    """
    if factor == 1:
        return data
    inputs = data["inputs"]
    size = tuple(max(1, round(side * factor)) for side in inputs.shape[-2:])
    scale = size[1] / inputs.shape[-1], size[0] / inputs.shape[-2]
    samples = []
    for sample in data["data_samples"]:
        moved = copy.copy(sample)
        for field in ("gt_instances", "ignored_instances"):
            if field not in sample:
                continue
            instances = getattr(sample, field).clone()
            if "bboxes" in instances:
                boxes = instances.bboxes
                boxes = getattr(boxes, "tensor", boxes)
                instances.bboxes = boxes * boxes.new_tensor(scale * 2)
            if "masks" in instances:
                instances.masks = instances.masks.resize(size)
            setattr(moved, field, instances)
        height, width = (max(1, round(side * factor)) for side in sample.img_shape[:2])
        moved.set_metainfo({"img_shape": (height, width), "pad_shape": size, "batch_input_shape": size})
        samples.append(moved)
    images = F.interpolate(inputs, size=size, mode="bilinear", align_corners=False, antialias=True)
    return {**data, "inputs": images, "data_samples": samples}
