"""What Grad-CAM leaves of images is enough to tell their classes, or not."""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor, nn

from regathlon_core.engine import fit
from regathlon_core.evaluation import Evaluation, Findings
from regathlon_core.features import FeaturePoint
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.rng import SampleDraw, global_stream
from regathlon_core.task import Batch, Split, Task
from regathlon_vision.evaluations.grad_cam.functional import grad_cam, map_point, relative
from regathlon_vision.evaluations.grad_cam.settings import GradCamMaskingSettings
from regathlon_vision.models.resnet import ResNet


class GradCamMasking(Evaluation[GradCamMaskingSettings]):
    """Train a ResNet-56 on images that show only where the model looks; the metric is its ``accuracy`` on such images.

    Where the heat towards the predicted class is below half of the image's largest, pixels are set to the mean colour, in
    training and test images. ``seen`` is the share of pixels that remain in the test images.

    Source: Xiang et al., arXiv:2106.01805, section 4.5 and Table 7. Not printed there: what half of the heat is a half of
    (here: of its largest value in an image), the value of hidden pixels, and how ResNet-56 is trained (here as He et al.
    2016 have it, with a cosine). The network looks at training images as they are augmented, not before.
    """

    def run(
        self, model: nn.Module, task: Task, *, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Findings:
        """Train the further network and measure it."""
        settings = self.settings
        seed = int(torch.randint(2**31, (), generator=generator))
        masked = MaskedTask(task, model, map_point(task, model, settings.place), settings.threshold, device)
        with global_stream(seed, "masking"):
            student = ResNet(
                task.in_channels, len(task.classes), width=settings.width, blocks=(settings.blocks,) * 3
            )
        budget = Budget(epochs=settings.epochs)
        recipe = Recipe(
            lr=settings.lr,
            weight_decay=1e-4,
            batch_size=settings.batch_size,
            budget=budget,
            eval_every=settings.epochs,
        )
        result = fit(student, masked.task, recipe=recipe, seed=seed, device=device)
        last = result.history[-1]
        accuracy = (last.test or last.val)["accuracy"]
        return Findings({"accuracy": accuracy, "seen": masked.seen()})


@dataclasses.dataclass
class MaskedTask:
    """A task whose images show only where a model looks.

    Attributes:
        original: The task.
        model: The model that looks.
        point: Whose maps Grad-CAM weighs.
        threshold: Share of an image's largest heat from which on a pixel is shown.
        device: Where the model is.
    """

    original: Task
    model: nn.Module
    point: FeaturePoint
    threshold: float
    device: torch.device | str

    def __post_init__(self) -> None:
        self.task = copy.copy(self.original)
        self.task.batch = self.batch  # type: ignore[method-assign]
        self._shown = self._pixels = 0

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        """Return samples of the task, masked."""
        batch = self.original.batch(split, index, draw)
        heat = grad_cam(self.model, self.point, batch.inputs.to(self.device))
        looked_at = (relative(heat) >= self.threshold).to(batch.inputs.device)
        if split != "train":
            self._shown += int(looked_at.sum())
            self._pixels += looked_at.numel()
        return self.original.occlude(batch, ~looked_at)

    def seen(self) -> float:
        """Return the share of pixels shown in evaluation so far."""
        return self._shown / max(self._pixels, 1)
