"""The training step of knowledge distillation."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.regularizer import Regularizer
from regathlon_core.regularizers.distillation.functional import distillation
from regathlon_core.regularizers.distillation.settings import DistillationSettings
from regathlon_core.rng import global_stream
from regathlon_core.task import Batch, Task, evaluating
from regathlon_core.weights import load_weights, read_weights


class Distillation(Regularizer[DistillationSettings]):
    """Train a network on its labels and on the softened outputs of a trained network, its teacher.

    The teacher sees the batch that the network sees, mixed where samples are mixed, in evaluation mode and without gradients.
    Nothing trains or moves it. Its weights are no part of the state, but what tells them from others is: a resume reads them
    again, and refuses another teacher.

    Source: Hinton, Vinyals & Dean, Distilling the Knowledge in a Neural Network, arXiv:1503.02531, section 2. The weights of
    the terms and the temperature are those of He et al., Bag of Tricks for Image Classification with Convolutional Neural
    Networks, CVPR 2019, arXiv:1812.01187, section 5.

    Deviations: (1) the divergence in place of the cross-entropy between teacher and student, which has the same gradients.
    (2) The code of He et al. gives both terms the weight 1/2, unlike their formula.

    Args:
        settings: The settings; or leave it out and give them as keywords.
        network: A trained teacher in place of the settings' ``teacher`` and ``weights``: any module that the task can
            predict with. It is moved to the model's device; else it stays as it is.

    Raises:
        UserError: There are both a network and a teacher by settings.

    Example:
        >>> from regathlon_core import Budget, Distillation, Recipe, fit
        >>> from regathlon_core.testing import ToyImages
        >>> task = ToyImages()
        >>> teacher = fit(task.model(seed=1), task, recipe=Recipe(budget=Budget(steps=2))).model
        >>> result = fit(task.model(seed=0), task, Distillation(network=teacher), Recipe(budget=Budget(steps=2)))
        >>> result.cost.steps
        2
    """

    Settings = DistillationSettings

    def __init__(
        self,
        settings: DistillationSettings | None = None,
        /,
        *,
        network: nn.Module | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(settings, **keywords)
        if network is not None and (self.settings.teacher or self.settings.weights):
            raise UserError(
                "distillation takes its teacher from network or from teacher and weights, not from both."
            )
        # In tuples, not as submodules: a teacher is neither trained nor saved.
        self._given = (network,)
        self._teacher: tuple[nn.Module | None] = (None,)
        self._contents = ""

    def attach(self, model: nn.Module, task: Task | None = None) -> None:
        """Build the teacher, or take the one that was given.

        Raises:
            UserError: There is none, or its weights do not fit.
        """
        if not self.settings.weight:
            return
        (given,) = self._given
        if given is model:
            raise UserError("distillation needs a teacher that is not the model itself.")
        teacher = given if given is not None else self._read(model, task)
        self._contents = _contents(teacher)
        device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
        self._teacher = (teacher.to(device),)

    def losses(
        self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the loss on the labels, with the distance from the teacher's outputs added."""
        outputs = task.predict(model, batch)
        loss = task.criterion(outputs, batch)
        (teacher,) = self._teacher
        if teacher is not None:
            with evaluating(teacher):
                reference = task.predict(teacher, batch)
            distance = distillation(outputs, reference, self.settings.temperature, task.soft_loss)
            loss = loss + self.settings.weight * distance
        yield loss

    def detach(self) -> None:
        """Let go of the teacher."""
        self._teacher = (None,)

    def get_extra_state(self) -> str:
        """Return what tells the teacher's weights from others: their hash."""
        return self._contents

    def set_extra_state(self, state: str) -> None:
        """Compare the teacher that a checkpoint's training had with the one that is attached.

        Raises:
            UserError: They differ.
        """
        if self._contents and state != self._contents:
            raise UserError(
                "The teacher's weights are not those that this training began with. Bring them back, or start it again."
            )

    def _read(self, model: nn.Module, task: Task | None) -> nn.Module:
        settings = self.settings
        if not settings.weights:
            raise UserError(
                "distillation needs a trained teacher: the file of its weights (weights) and its name (teacher), or network."
            )
        declared = None
        if settings.teacher:
            if task is None:
                raise UserError(
                    "A teacher by name is one of a task's models: attach with the task, or give a network."
                )
            declared = settings.teacher_of(task.settings)
        if declared is None:
            teacher = copy.deepcopy(model)
        else:
            assert task is not None
            # Its initial weights are overwritten: they cost nobody's stream a number.
            with global_stream(0, "teacher"):
                teacher = declared.build(task)
        path = Path(settings.weights).expanduser()
        load_weights(teacher, read_weights(path), where=path)
        return teacher.requires_grad_(False)


def _contents(network: nn.Module) -> str:
    """Return the hash of a network's weights and buffers."""
    found = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()
