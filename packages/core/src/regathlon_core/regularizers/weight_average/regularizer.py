"""The mean of a model's weights along its training."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.regularizer import Regularizer
from regathlon_core.regularizers.weight_average.settings import WeightAverageSettings
from regathlon_core.task import Task


class WeightAverage(Regularizer[WeightAverageSettings]):
    """Keep the mean of the weights after every step, and evaluate the model that has them.

    The training is not touched. After the share ``start`` of it, the mean of the weights of all steps (or of every few)
    is kept, each counting the same; it is what metrics, and so the selection of an epoch, are read from. Running statistics
    of batch-norm are averaged as weights are; whole numbers are taken as they are.

    Source: Arpit, Wang, Zhou, Xiong: Ensemble of Averages, NeurIPS 2022, arXiv:2110.10832, equation 1, which averages from
    step 100 of 5000 on; the ensemble over several trainings is not part of it. Cha et al.: SWAD, NeurIPS 2021,
    arXiv:2102.08604, averages every step's weights too, between a start and an end that the validation loss decides.

    Deviation: the sources freeze batch-norm; here its averaged statistics are an approximation of those of the averaged
    weights.

    Example:
        >>> from regathlon_core import Budget, Recipe, WeightAverage, fit
        >>> from regathlon_core.testing import ToyImages
        >>> task = ToyImages()
        >>> model = task.model(seed=0)
        >>> result = fit(model, task, WeightAverage(start=0.5), Recipe(budget=Budget(steps=4)))
        >>> result.model is model
        False
    """

    Settings = WeightAverageSettings

    steps: Tensor
    counted: Tensor

    def __init__(self, settings: WeightAverageSettings | None = None, /, **keywords: Any) -> None:
        super().__init__(settings, **keywords)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("counted", torch.zeros((), dtype=torch.int64))
        # Not as submodules: the optimizer would train the copy, and the model belongs to the caller.
        self._pair: tuple[nn.Module, nn.Module] | None = None

    def attach(self, model: nn.Module, task: Task | None = None) -> None:
        """Copy the model; the copy's tensors are buffers of the regularizer, so that its state holds them."""
        self._pair = model, copy.deepcopy(model).requires_grad_(False)
        for number, tensor in enumerate(_tensors(model)):
            self.register_buffer(f"average_{number}", tensor.detach().clone())

    def after_step(self, progress: float) -> None:
        """Count the step's weights."""
        self.steps += 1
        if progress <= self.settings.start or int(self.steps) % self.settings.every:
            return
        assert self._pair is not None
        self.counted += 1
        with torch.no_grad():
            for number, tensor in enumerate(_tensors(self._pair[0])):
                average: Tensor = getattr(self, f"average_{number}")
                if average.is_floating_point():
                    average.lerp_(tensor, 1 / int(self.counted))
                else:
                    average.copy_(tensor)

    def evaluated(self, model: nn.Module) -> nn.Module:
        """Return the copy with the averaged weights, or the model where none were counted yet."""
        if self._pair is None or not int(self.counted):
            return model
        _, mean = self._pair
        for number, tensor in enumerate(_tensors(mean)):
            tensor.data = getattr(self, f"average_{number}")
        return mean.eval()

    def detach(self) -> None:
        """Let go of the model and forget the averages."""
        self._pair = None
        for name in [name for name in self._buffers if name.startswith("average_")]:
            del self._buffers[name]


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
