"""What all tasks on images share: views, occlusion, feature points."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from regathlon_core.features import FeaturePoint
from regathlon_core.metrics import ConfusionMetrics, Metrics
from regathlon_core.task import Batch, Task, View
from regathlon_vision import ops
from regathlon_vision.metrics import TopFiveMetrics
from regathlon_vision.models import points

Transform = Callable[..., Tensor]
"""Takes images [B, C, H, W] and, by keyword, ``mode``."""


class ImageTask(Task):
    """A task whose inputs are images, float32 [B, C, H, W], normalised so that 0 is the mean of the data.

    Labels are one class per image, int64 [B], or, where ``dense``, one per pixel, int64 [B, H, W]; then views
    transform labels and align outputs with the same operation as the images.
    """

    view_scales: ClassVar[tuple[float, ...]] = (1.0, 0.875, 0.75)
    """Factors that a view of the kind "scale" resizes by; GradAug's 32, 28 and 24 of 32 pixels."""
    view_angles: ClassVar[tuple[float, ...]] = (0.0, 90.0, 180.0, 270.0)
    """Degrees that a view of the kind "rotation" turns by."""
    dense: ClassVar[bool] = False
    """Whether every pixel has a label."""
    pixel_mean: tuple[float, ...] = ()
    """Per channel, what was subtracted from pixels in [0, 1]; empty where inputs do not come from such pixels."""
    pixel_std: tuple[float, ...] = ()
    """Per channel, what the difference was divided by."""

    def normalized(self, pixels: Tensor) -> Tensor:
        """Return the inputs that stand for pixels in [0, 1], [B, C, H, W]."""
        mean, std = (pixels.new_tensor(part)[:, None, None] for part in (self.pixel_mean, self.pixel_std))
        return (pixels - mean) / std

    def pixels(self, inputs: Tensor) -> Tensor:
        """Return the pixels in [0, 1] that inputs stand for, [B, C, H, W]; the inverse of ``normalized``."""
        mean, std = (inputs.new_tensor(part)[:, None, None] for part in (self.pixel_mean, self.pixel_std))
        return inputs * std + mean

    def metrics(self) -> Metrics:
        """Return accuracies, the one among five where there are more than ten classes; of pixels mIoU and Dice, too."""
        if not self.dense and len(self.classes) > 10:
            return TopFiveMetrics(len(self.classes), ignore_index=self.ignore_index)
        return ConfusionMetrics(len(self.classes), ignore_index=self.ignore_index, dense=self.dense)

    def features(self, model: nn.Module) -> Sequence[FeaturePoint]:
        """Return the outputs of residual blocks, or what the model names itself."""
        return points.feature_points(model)

    def output_layers(self, model: nn.Module) -> Sequence[str]:
        """Return the classifier."""
        return points.output_layers(model)

    def views(self, batch: Batch, generator: torch.Generator, kinds: Sequence[str] = ()) -> Iterator[View]:
        """Yield the batch resized ("scale") or rotated ("rotation"), all its images by one random amount.

        These are RandScale and RandRot of GradAug (Yang, Zhu & Chen 2020, arXiv 2006.07989, section 3.3).

        Args:
            batch: Samples.
            generator: Source of randomness.
            kinds: Which of the two to apply, in order; empty for the first that the task offers.

        Raises:
            UserError: The task offers no such kind.
        """
        kinds = self.view_kinds(kinds)
        while True:
            yield self._view(batch, [self._transform(kind, generator) for kind in kinds])

    def occlude(self, batch: Batch, where: Tensor) -> Batch:
        """Return the batch with pixels set to 0, the mean of the data.

        Args:
            batch: Images.
            where: True at pixels to occlude, bool [B, H, W].
        """
        return batch.replace(inputs=batch.inputs.masked_fill(where[:, None], 0.0))

    def _transform(self, kind: str, generator: torch.Generator) -> Transform:
        if kind == "scale":
            return functools.partial(ops.rescale, scale=_choice(self.view_scales, generator))
        return functools.partial(ops.rotate, degrees=_choice(self.view_angles, generator))

    def _view(self, batch: Batch, transforms: Sequence[Transform]) -> View:
        def align(outputs: Any) -> Any:
            return _apply(transforms, outputs)

        moved = batch.replace(inputs=align(batch.inputs))
        if not self.dense:
            return View(moved)

        def align_labels(labels: Tensor) -> Tensor:
            return _apply(transforms, labels[:, None], mode="nearest")[:, 0]

        mixed = batch.mixed
        if mixed is not None:
            mixed = dataclasses.replace(mixed, targets=align_labels(mixed.targets))
        return View(moved.replace(targets=align_labels(batch.targets), mixed=mixed), align)


def _apply(transforms: Sequence[Transform], images: Tensor, **keywords: Any) -> Tensor:
    for transform in transforms:
        images = transform(images, **keywords)
    return images


def _choice(values: Sequence[float], generator: torch.Generator) -> float:
    drawn = torch.randint(len(values), (), generator=generator, device=generator.device)
    return values[int(drawn.item())]
