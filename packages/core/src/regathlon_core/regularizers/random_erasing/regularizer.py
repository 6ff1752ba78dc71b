"""Random Erasing of a step's inputs."""

from __future__ import annotations

import torch
from torch import nn

from regathlon_core.regularizer import Regularizer
from regathlon_core.regularizers.random_erasing.functional import random_erasing
from regathlon_core.regularizers.random_erasing.settings import RandomErasingSettings
from regathlon_core.task import Batch, Task


class RandomErasing(Regularizer[RandomErasingSettings]):
    """Blank a rectangle in some training inputs. See ``regathlon_core.functional.random_erasing``.

    Example:
        >>> RandomErasing(p=0.25)
        RandomErasing(random_erasing(p=0.25))
    """

    Settings = RandomErasingSettings

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Return the batch with rectangles blanked."""
        inputs = random_erasing(batch.inputs, **self.settings.settings(), generator=generator)
        return batch if inputs is batch.inputs else batch.replace(inputs=inputs)
