"""What all detection tasks share: batches, losses, views, occlusion, places for features, metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision import tv_tensors  # type: ignore[import-untyped]
from torchvision.transforms.v2 import functional as transforms  # type: ignore[import-untyped]

from regathlon_core.features import FeaturePoint
from regathlon_core.rng import SampleDraw
from regathlon_core.task import Batch, Split, Task, View
from regathlon_vision.detection.average_precision import DetectionMetrics
from regathlon_vision.detection.coco import Annotations, Instance, decode
from regathlon_vision.detection.images import Images
from regathlon_vision.detection.settings import DetectionSettings
from regathlon_vision.detection.stages import Trained, two_stages

Target = dict[str, Tensor]


class DetectionTask(Task):
    """A task of boxes, and masks where the data has them.

    Inputs are ``Images``, float32 and normalised so that 0 is the mean of the data; the targets of an image are a
    mapping: ``boxes`` float32 [N, 4] (left, top, right, bottom in pixels), ``labels`` int64 [N] in 1..K, ``masks``
    uint8 [N, H, W] where every object has one, ``record`` int64 [2], its place in ``annotations``. Crowds are not among
    them.

    Models are detectors of two stages: torchvision's whose ``transform`` is ``PaddedImages``, since images come resized, or
    any that says by a method ``two_stages()`` what the tasks ask (``TwoStages``). A model in training mode returns its
    losses, in evaluation mode its detections.

    Subclasses set ``annotations`` and ``statistics`` and implement ``read``.
    """

    view_scales: ClassVar[tuple[float, ...]] = (1.0, 0.875, 0.75)
    """Factors that a view of the kind "scale" resizes by; GradAug's 32, 28 and 24 of 32 pixels."""
    settings: DetectionSettings
    annotations: dict[Split, Annotations]
    """Of every split that there is."""
    short = 0
    """Pixels of the shorter side of an image after resizing; 0 for no resizing."""
    long = 0
    """Most pixels of the longer side; 0 for no limit."""
    flip = 0.5
    """Probability that a training image is mirrored left to right."""
    statistics: tuple[Sequence[float], Sequence[float]] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    """Mean and standard deviation of the colours in [0, 1]; those of ImageNet."""

    def read(self, split: Split, index: int) -> NDArray[np.uint8]:
        """Return an image of a split, uint8 [H, W, 3]."""
        raise AssertionError("implemented by subclasses")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the categories; the background, label 0, is not among them."""
        return self.annotations["train"].classes

    @property
    def in_channels(self) -> int:
        """Red, green and blue."""
        return 3

    def size(self, split: Split) -> int:
        """Return the number of images."""
        return len(self.annotations[split].images) if split in self.annotations else 0

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        """Return images with their objects, some of them mirrored where there is a draw."""
        flips = torch.zeros(len(index), dtype=torch.bool)
        if draw is not None:
            flips = draw.uniform(index, 1, purpose="flip")[:, 0] < self.flip
        samples = [
            self._sample(split, number, flip)
            for number, flip in zip(index.tolist(), flips.tolist(), strict=True)
        ]
        return Batch(
            Images.of([image for image, _ in samples]), [target for _, target in samples], index=index
        )

    def resized_to(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width that an image is resized to."""
        factor = self.short / min(height, width) if self.short else 1.0
        if self.long and factor * max(height, width) > self.long:
            factor = self.long / max(height, width)
        return max(1, round(height * factor)), max(1, round(width * factor))

    def predict(self, model: nn.Module, batch: Batch) -> Any:
        """Return ``Trained`` in training mode, else detections: a mapping per image, in pixels of the inputs."""
        if not model.training:
            return model(batch.inputs)
        return two_stages(model).learn(batch.inputs, batch.targets)

    def criterion(self, outputs: Trained, batch: Batch) -> Tensor:
        """Return the sum of the model's losses."""
        return torch.stack([loss.float() for loss in outputs.losses.values()]).sum()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the sum of the model's losses; in evaluation mode too, where the layers stay in it."""
        return self.criterion(two_stages(model).learn(batch.inputs, batch.targets), batch)

    def soft_loss(self, outputs: Trained, reference: Trained) -> Tensor:
        """Return KL(reference || outputs) of the class probabilities of the reference's regions, averaged over them."""
        logits = outputs.stages.class_logits(outputs.features, reference.boxes, outputs.sizes)
        return super().soft_loss(logits, reference.logits)

    def metrics(self) -> DetectionMetrics:
        """Return average precision of boxes, and of masks where the model has them."""
        return DetectionMetrics([self.annotations[split] for split in self.annotations])

    def evaluate(
        self, model: nn.Module, split: Split, *, batch_size: int = 8, device: torch.device | str = "cpu"
    ) -> Mapping[str, float]:
        """Return the metrics of a model on a split; by default in batches of 8, since images may be large."""
        return super().evaluate(model, split, batch_size=batch_size, device=device)

    # ---- asked by regularizers -----------------------------------------------------------------------------

    def features(self, model: nn.Module) -> Sequence[FeaturePoint]:
        """Return the outputs of the backbone's residual blocks; those of its last two groups are default ones."""
        return two_stages(model).feature_points()

    def output_layers(self, model: nn.Module) -> Sequence[str]:
        """Return the pyramid and both stages: sub-networks are narrow in the backbone and where it enters the pyramid."""
        stages = two_stages(model)
        return (f"{stages.backbone}.{stages.pyramid}", *stages.heads)

    def narrowed(self, model: nn.Module) -> tuple[nn.Module, Sequence[str]]:
        """Return the backbone with its pyramid, which keeps its outputs: the many small calls behind it stay as they are."""
        stages = two_stages(model)
        return model.get_submodule(stages.backbone), (stages.pyramid,)

    def views(self, batch: Batch, generator: torch.Generator, kinds: Sequence[str] = ()) -> Iterator[View]:
        """Yield the batch resized, with boxes and masks, all its images by one random factor ("scale").

        Args:
            batch: Samples.
            generator: Source of randomness.
            kinds: ``("scale",)`` or nothing.

        Raises:
            UserError: The task offers no such kind.
        """
        kinds = self.view_kinds(kinds)
        while True:
            factor = 1.0
            for _ in kinds:
                drawn = torch.randint(len(self.view_scales), (), generator=generator, device=generator.device)
                factor *= self.view_scales[int(drawn)]
            yield _resized_view(batch, factor)

    def attributed(self, inputs: Images) -> Tensor:
        """Return the tensor that all images lie in."""
        return inputs.padded

    def occlude(self, batch: Batch, where: Tensor) -> Batch:
        """Return the batch with pixels set to 0, the mean of the data; boxes and masks stay.

        Args:
            batch: Images.
            where: True at pixels to occlude, bool [B, H, W].
        """
        images = batch.inputs
        return batch.replace(inputs=Images(images.padded.masked_fill(where[:, None], 0.0), images.sizes))

    def explained(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[Callable[[nn.Module, Images], Tensor], Tensor]:
        """Return the class logits of one box per image, drawn at random, and the class of each box.

        An image without objects is explained by its background as a whole.
        """
        boxes, labels = [], []
        for target, (height, width) in zip(batch.targets, batch.inputs.sizes, strict=True):
            count = len(target["boxes"])
            if count:
                drawn = int(torch.randint(count, (), generator=generator, device=generator.device))
                boxes.append(target["boxes"][drawn])
                labels.append(target["labels"][drawn])
            else:
                boxes.append(batch.inputs.padded.new_tensor([0.0, 0.0, width, height]))
                labels.append(torch.zeros((), dtype=torch.int64, device=batch.inputs.padded.device))

        def score(model: nn.Module, inputs: Images) -> Tensor:
            return two_stages(model).explained_logits(inputs, torch.stack(boxes))

        return score, torch.stack(labels)

    # ---- details -------------------------------------------------------------------------------------------

    def _sample(self, split: Split, number: int, flip: bool) -> tuple[Tensor, Target]:
        record = self.annotations[split].images[number]
        pixels = torch.from_numpy(self.read(split, number)).permute(2, 0, 1)
        mean, std = (
            pixels.new_tensor(value, dtype=torch.float32)[:, None, None] for value in self.statistics
        )
        image = (pixels.float() / 255 - mean) / std
        target = _target([item for item in record.instances if not item.crowd], record.height, record.width)
        image, target = _resized(image, target, self.resized_to(record.height, record.width))
        if flip:
            image, target = _flipped(image, target)
        place = list(self.annotations).index(split), number
        return image, target | {"record": torch.tensor(place)}


def _target(instances: Sequence[Instance], height: int, width: int) -> Target:
    boxes = torch.tensor([item.box for item in instances], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([item.label for item in instances], dtype=torch.int64)
    target = {"boxes": boxes, "labels": labels}
    masks = [decode(item.mask) for item in instances if item.mask is not None]
    if len(masks) == len(instances):
        stacked = np.stack(masks) if masks else np.zeros((0, height, width), np.uint8)
        target["masks"] = torch.from_numpy(stacked)
    return target


def _resized(image: Tensor, target: Target, size: tuple[int, int]) -> tuple[Tensor, Target]:
    if size == image.shape[-2:]:
        return image, target
    return _transformed(image, target, lambda part: transforms.resize(part, list(size)))


def _flipped(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    return _transformed(image, target, transforms.horizontal_flip)


def _transformed(image: Tensor, target: Target, transform: Callable[[Any], Any]) -> tuple[Tensor, Target]:
    """Transform an image, its boxes and its masks alike."""
    size = (image.shape[-2], image.shape[-1])
    boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=size)
    moved = {**target, "boxes": transform(boxes).as_subclass(Tensor)}
    if "masks" in target:
        moved["masks"] = transform(tv_tensors.Mask(target["masks"])).as_subclass(Tensor)
    changed: Tensor = transform(image)
    return changed, moved


def _resized_view(batch: Batch, factor: float) -> View:
    if factor == 1:
        return View(batch)
    samples = []
    for image, target, sides in zip(batch.inputs, batch.targets, batch.inputs.sizes, strict=True):
        height, width = (max(1, round(side * factor)) for side in sides)
        samples.append(_resized(image, target, (height, width)))
    images = Images.of([image for image, _ in samples])

    def align(outputs: Trained) -> Trained:
        boxes = [
            own * own.new_tensor([new[1] / old[1], new[0] / old[0]]).repeat(2)
            for own, new, old in zip(outputs.boxes, images.sizes, outputs.sizes, strict=True)
        ]
        return outputs._replace(boxes=boxes)

    return View(batch.replace(inputs=images, targets=[target for _, target in samples]), align)
