"""Declaration of ImageNet-A, -R and -O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.settings import EvaluationSettings


@dataclass(frozen=True)
class ZeroShotSettings(EvaluationSettings):
    """How a classifier does on images that it was not trained for.

    Attributes:
        folders: Folders below the data root with ``<class>/<image>`` that share the task's classes: ImageNet-A, -R and
            their like. Accuracy counts the classes only that a folder has.
        outliers: A folder of images of no class of the task, in folders of the classes that they are taken for
            (ImageNet-O); empty for none.
    """

    name: ClassVar[str] = "zero_shot"
    summary: ClassVar[str] = "accuracy on ImageNet-A and -R, and how well ImageNet-O is told apart"
    implementation: ClassVar[str] = "regathlon_vision.evaluations.zero_shot.evaluation:ZeroShot"
    needs: ClassVar[frozenset[str]] = frozenset({"sample_labels", "grid_inputs"})
    folders: tuple[str, ...] = ("imagenet-a", "imagenet-r")
    outliers: str = "imagenet-o"

    def __post_init__(self) -> None:
        if not self.folders and not self.outliers:
            raise UserError(f"{self.name}: give folders or outliers.")
