"""Declarations of the evaluations that use Grad-CAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.settings import EvaluationSettings

_NEEDS = frozenset({"sample_labels", "grid_inputs", "features"})


@dataclass(frozen=True)
class GradCamSettings(EvaluationSettings):
    """Heat maps of the first test images, towards the classes that are predicted.

    Attributes:
        images: How many.
        place: Feature point whose map is weighed; empty for the last of the model's default ones.
    """

    name: ClassVar[str] = "grad_cam"
    summary: ClassVar[str] = "pictures of where a classifier looks (Grad-CAM)"
    implementation: ClassVar[str] = "regathlon_vision.evaluations.grad_cam.evaluation:GradCam"
    needs: ClassVar[frozenset[str]] = _NEEDS
    images: int = 8
    place: str = ""

    def __post_init__(self) -> None:
        if self.images < 1:
            raise UserError(f"{self.name}: images must be at least 1, not {self.images}.")


@dataclass(frozen=True)
class GradCamMaskingSettings(EvaluationSettings):
    """How well a further network classifies what Grad-CAM leaves of the images (Table 7 of the DropGraph paper).

    Attributes:
        threshold: Pixels count as looked at where the heat is at least this share of the image's largest.
        blocks: Residual blocks in each of the further network's three groups; 9 make the paper's ResNet-56.
        width: Channels of its first group.
        epochs: How long it is trained.
        batch_size: Images in its steps.
        lr: Its peak learning rate.
        place: Feature point whose map is weighed; empty for the last of the model's default ones.
    """

    name: ClassVar[str] = "grad_cam_masking"
    summary: ClassVar[str] = "accuracy of a network trained on what Grad-CAM leaves of the images"
    implementation: ClassVar[str] = "regathlon_vision.evaluations.grad_cam.masking:GradCamMasking"
    needs: ClassVar[frozenset[str]] = _NEEDS | {"occlude"}
    threshold: float = 0.5
    blocks: int = 9
    width: int = 16
    epochs: int = 200
    batch_size: int = 128
    lr: float = 0.1
    place: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise UserError(f"{self.name}: threshold must lie in [0, 1], not {self.threshold}.")
        for field in ("blocks", "width", "epochs", "batch_size"):
            if getattr(self, field) < 1:
                raise UserError(f"{self.name}: {field} must be at least 1, not {getattr(self, field)}.")
        if not self.lr > 0:
            raise UserError(f"{self.name}: lr must be above 0, not {self.lr}.")
