"""Mean Teacher's training step."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.passes import PassRole, run_as
from regathlon_core.regularizer import Regularizer
from regathlon_core.regularizers.mean_teacher.functional import consistency, decay_at, ramped
from regathlon_core.regularizers.mean_teacher.settings import MeanTeacherSettings
from regathlon_core.rng import on_cpu
from regathlon_core.task import Batch, Task


class MeanTeacher(Regularizer[MeanTeacherSettings]):
    """Train a network to agree with the moving average of its own weights, its teacher, which is what is evaluated.

    In a step the network learns from the labels, and its probabilities on labelled and unlabelled samples are drawn to
    those of the teacher; both see the inputs with noise of their own. After the step the teacher's weights move towards
    the network's, and its batch-norm statistics become the network's.

    Source: Tarvainen & Valpola, Mean teachers are better role models, NeurIPS 2017, arXiv:1703.01780, sections 2 and 3; the
    settings are those of Oliver et al., Realistic Evaluation of Deep Semi-Supervised Learning Algorithms, NeurIPS 2018,
    arXiv:1804.09170, whose protocol GradAug's Table 10 follows.

    Deviations: (1) student and teacher see the same random shift and mirroring, and noise of their own; the sources shift
    them apart, too. (2) Passes over unlabelled samples normalise by their own statistics and store none.

    Example:
        >>> from regathlon_core import Budget, MeanTeacher, Recipe, fit
        >>> from regathlon_core.testing import ToyImages
        >>> task = ToyImages()
        >>> model = task.model(seed=0)
        >>> result = fit(model, task, MeanTeacher(), Recipe(budget=Budget(steps=2)))
        >>> result.model is model
        False
    """

    Settings = MeanTeacherSettings
    steps: Tensor
    progress: Tensor

    def __init__(self, settings: MeanTeacherSettings | None = None, /, **keywords: Any) -> None:
        super().__init__(settings, **keywords)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))
        # Not as submodules: the optimizer would train the teacher, and the model belongs to the caller.
        self._pair: tuple[nn.Module, nn.Module] | None = None

    def attach(self, model: nn.Module, task: Task | None = None) -> None:
        """Copy the model: the first teacher.

        The copy's tensors are buffers of the regularizer, so that its state holds them.
        """
        teacher = copy.deepcopy(model).requires_grad_(False)
        self._pair = model, teacher
        for number, tensor in enumerate(_tensors(teacher)):
            self.register_buffer(f"teacher_{number}", tensor.detach().clone())

    def losses(
        self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the loss on labelled samples and the consistency on unlabelled ones."""
        weight = self.settings.weight * ramped(float(self.progress), self.settings.ramp)
        noisy = batch.replace(inputs=self._noisy(batch.inputs, generator))
        outputs = task.predict(model, noisy)
        loss = task.criterion(outputs, noisy)
        yield loss + weight * consistency(outputs, self._taught(batch.inputs, task, generator))
        count = round(self.settings.unlabelled * len(batch.targets))
        if not (count and self.settings.weight):
            return
        inputs = task.unlabelled(count, on_cpu(generator)).to(batch.inputs.device, batch.inputs.dtype)
        with run_as(model, PassRole.SUB):
            outputs = task.predict(model, _unlabelled(self._noisy(inputs, generator)))
        yield weight * consistency(outputs, self._taught(inputs, task, generator))

    def after_step(self, progress: float) -> None:
        """Move the teacher's weights towards the network's; take over its statistics."""
        self.steps += 1
        self.progress.fill_(progress)
        assert self._pair is not None
        model, _ = self._pair
        decay = decay_at(int(self.steps), self.settings.decay)
        with torch.no_grad():
            for number, tensor in enumerate(_tensors(model)):
                average: Tensor = getattr(self, f"teacher_{number}")
                if isinstance(tensor, nn.Parameter):
                    average.lerp_(tensor, 1 - decay)
                else:
                    average.copy_(tensor)

    def evaluated(self, model: nn.Module) -> nn.Module:
        """Return the teacher."""
        return self._teacher().eval()

    def detach(self) -> None:
        """Let go of the model and forget the teacher's tensors."""
        self._pair = None
        for name in [name for name in self._buffers if name.startswith("teacher_")]:
            del self._buffers[name]

    def _teacher(self) -> nn.Module:
        """Return the copy, with its tensors those of the state, wherever a resume or a move has put them."""
        assert self._pair is not None
        _, teacher = self._pair
        for number, tensor in enumerate(_tensors(teacher)):
            tensor.data = getattr(self, f"teacher_{number}")
        return teacher

    def _taught(self, inputs: Tensor, task: Task, generator: torch.Generator) -> Tensor:
        teacher = self._teacher().train()
        with torch.no_grad(), run_as(teacher, PassRole.SUB):
            outputs: Tensor = task.predict(teacher, _unlabelled(self._noisy(inputs, generator)))
        return outputs

    def _noisy(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        if not self.settings.noise:
            return inputs
        noise = torch.randn(inputs.shape, generator=generator, device=inputs.device)
        return inputs + (self.settings.noise * noise).to(inputs.dtype)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _unlabelled(inputs: Tensor) -> Batch:
    return Batch(inputs, torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device))
