"""Scenes of handwritten digits, with boxes and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regathlon_core.task import Split
from regathlon_data import digit_scenes
from regathlon_vision.detection.coco import from_coco
from regathlon_vision.detection.settings import DetectionScenesSettings
from regathlon_vision.detection.task import DetectionTask


class DetectionScenesTask(DetectionTask):
    """The task that ``DetectionScenesSettings`` declares: scenes of 32x32 pixels with up to eight digits.

    Scenes are not mirrored: digits are not the same in a mirror.

    Args:
        settings: The declaration.
        data: Not needed: the digits ship with ``regathlon_data``.

    Example:
        >>> import torch
        >>> task = DetectionScenesTask()
        >>> batch = task.batch("val", torch.arange(2))
        >>> batch.inputs[0].shape, batch.targets[0]["boxes"].shape, task.classes[:2]
        (torch.Size([3, 32, 32]), torch.Size([5, 4]), ('0', '1'))
    """

    flip = 0.0

    def __init__(self, settings: DetectionScenesSettings | None = None, data: Path | None = None) -> None:
        super().__init__(settings if settings is not None else DetectionScenesSettings())
        splits: tuple[Split, ...] = ("train", "val", "test")
        self._scenes = {split: digit_scenes(split) for split in splits}
        self.annotations = {split: from_coco(scenes.coco()) for split, scenes in self._scenes.items()}
        train = self._scenes["train"].images / 255
        self.statistics = train.mean((0, 1, 2)).tolist(), train.std((0, 1, 2)).tolist()

    def read(self, split: Split, index: int) -> NDArray[np.uint8]:
        """Return a scene."""
        scene: NDArray[np.uint8] = self._scenes[split].images[index].copy()
        return scene
