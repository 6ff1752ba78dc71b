"""The protocol of an evaluation: what is measured or drawn on the model of a finished trial."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from regathlon_core.settings import EvaluationSettings
from regathlon_core.task import Task

E = TypeVar("E", bound=EvaluationSettings)


@dataclass(frozen=True)
class Picture:
    """A picture to show beside a trial's numbers.

    Attributes:
        name: Name of the file to write, without its ending; distinct within an evaluation.
        caption: What is to be seen, in a sentence.
        image: uint8 [3, H, W], RGB.
    """

    name: str
    caption: str
    image: Tensor

    def __post_init__(self) -> None:
        if self.image.dtype != torch.uint8 or self.image.ndim != 3 or self.image.shape[0] != 3:
            raise ValueError(
                f"The picture {self.name!r} must be uint8 [3, H, W], not {self.image.dtype} "
                f"{list(self.image.shape)}."
            )


@dataclass(frozen=True)
class Findings:
    """What an evaluation has found.

    Attributes:
        metrics: Numbers by name; the runner stores them as ``<evaluation>/<name>``.
        pictures: In the order to show them.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    pictures: Sequence[Picture] = ()


class Evaluation(abc.ABC, Generic[E]):
    """Measures or draws something on the model that a training left behind: robustness, heat maps, features.

    Args:
        settings: The declaration that built it.
        data: Folder of downloaded data sets, for evaluations that need data of their own.
    """

    def __init__(self, settings: E, data: Path | None = None) -> None:
        self.settings, self.data = settings, data

    @abc.abstractmethod
    def run(
        self, model: nn.Module, task: Task, *, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Findings:
        """Return what there is to say of a model.

        Args:
            model: Plain (no regularizer attached), on ``device``, in evaluation mode. It may be changed.
            task: What it was trained on.
            generator: The only source of randomness, on the CPU.
            device: Where the model is.
        """
