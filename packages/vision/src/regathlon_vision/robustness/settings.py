"""Declarations of the robustness evaluations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError, unknown
from regathlon_core.settings import EvaluationSettings
from regathlon_vision.robustness.constants import COMMON, EXTRA


@dataclass(frozen=True)
class RobustnessSettings(EvaluationSettings):
    """What robustness evaluations declare alike."""

    needs: ClassVar[frozenset[str]] = frozenset({"class_labels", "sample_labels", "pixels"})


@dataclass(frozen=True)
class CorruptionsSettings(RobustnessSettings):
    """Errors under common corruptions, made on the fly or read from a folder.

    Attributes:
        only: Which corruptions; empty for the fifteen of ImageNet-C.
        severities: Which of 1 to 5.
        samples: How many random test images to use; 0 for all. Not with ``folder``.
        folder: Below the data root, images that are corrupted already, as ImageNet-C has them
            (``<corruption>/<severity>/<class>/<image>``) or CIFAR-10-C (``<corruption>.npy`` and ``labels.npy``); empty to make
            them.
    """

    name: ClassVar[str] = "corruptions"
    summary: ClassVar[str] = "errors under common corruptions (ImageNet-C's), and their mean, mCE"
    implementation: ClassVar[str] = "regathlon_vision.robustness.evaluation:Corruptions"
    only: tuple[str, ...] = ()
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    samples: int = 0
    folder: str = ""

    def __post_init__(self) -> None:
        for name in self.only:
            if name not in COMMON + EXTRA:
                raise unknown("corruption", name, COMMON + EXTRA)
        if not self.severities or not set(self.severities) <= {1, 2, 3, 4, 5}:
            raise UserError(f"{self.name}: severities are some of 1 to 5, not {list(self.severities)}.")
        if self.samples < 0:
            raise UserError(f"{self.name}: samples must be at least 0, not {self.samples}.")
        if self.samples and self.folder:
            raise UserError(
                f"{self.name}: samples says nothing of images in a folder; leave one of them out."
            )


@dataclass(frozen=True)
class FgsmSettings(RobustnessSettings):
    """Accuracy under the fast gradient sign method (Table 9 of the GradAug paper).

    Attributes:
        epsilons: Largest changes of a pixel, whose range is 0 to 1.
        samples: How many random test images to use; 0 for all.
    """

    name: ClassVar[str] = "fgsm"
    summary: ClassVar[str] = "accuracy under one step of the gradient's sign"
    implementation: ClassVar[str] = "regathlon_vision.robustness.evaluation:Fgsm"
    epsilons: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.25)
    samples: int = 0

    def __post_init__(self) -> None:
        _check_attack(self.name, self.epsilons, self.samples)


@dataclass(frozen=True)
class PgdSettings(RobustnessSettings):
    """Accuracy under projected gradient descent.

    Attributes:
        epsilons: Largest changes of a pixel, whose range is 0 to 1.
        steps: Steps of the gradient's sign.
        step: Size of a step as a share of epsilon.
        samples: How many random test images to use; 0 for all.
    """

    name: ClassVar[str] = "pgd"
    summary: ClassVar[str] = "accuracy under projected gradient descent from a random start"
    implementation: ClassVar[str] = "regathlon_vision.robustness.evaluation:Pgd"
    epsilons: tuple[float, ...] = (2 / 255, 8 / 255)
    steps: int = 10
    step: float = 0.25
    samples: int = 0

    def __post_init__(self) -> None:
        _check_attack(self.name, self.epsilons, self.samples)
        if self.steps < 1:
            raise UserError(f"{self.name}: steps must be at least 1, not {self.steps}.")
        if not 0 < self.step < math.inf:
            raise UserError(f"{self.name}: step must be above 0, not {self.step}.")


def _check_attack(name: str, epsilons: tuple[float, ...], samples: int) -> None:
    if not epsilons or not all(0 <= epsilon <= 1 for epsilon in epsilons):
        raise UserError(f"{name}: epsilons are changes of pixels in [0, 1], not {list(epsilons)}.")
    if samples < 0:
        raise UserError(f"{name}: samples must be at least 0, not {samples}.")
