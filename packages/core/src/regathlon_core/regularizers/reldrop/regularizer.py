"""RelDrop of a step's inputs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from regathlon_core.attribution import (
    gradient_x_input,
    integrated_gradients,
    lrp,
    relevance_of_positions,
)
from regathlon_core.ops.sampling import sample_bernoulli
from regathlon_core.regularizer import Regularizer
from regathlon_core.regularizers.reldrop.averaging import lent_weights, move_averages
from regathlon_core.regularizers.reldrop.functional import sample_relevant_blocks, sample_relevant_positions
from regathlon_core.regularizers.reldrop.settings import RelDropSettings
from regathlon_core.task import Batch, Task


class _Rates(NamedTuple):
    p: float
    alpha: float
    beta: float


_BLOCKS, _PIXELS, _POINTS = _Rates(0.5, 0.0, 0.0), _Rates(0.3, 0.3, 0.5), _Rates(1.0, 0.5, 0.15)


class RelDrop(Regularizer[RelDropSettings]):
    """Occlude the parts of training inputs that the model relies on for their true class.

    In every step Layer-wise Relevance Propagation from the true class's logit says, in evaluation mode, how
    much each position of each input contributes; a block around the most relevant position, or positions
    drawn by relevance and chance, are replaced by the modality's absent value (``Task.occlude``), and the
    model trains on the rest. Relevance is a constant: no second derivatives. Only samples whose coin says so
    are explained. The inputs of a composition are occluded before they are mixed.

    Source: Gururaj et al.: Relevance-driven Input Dropout: an Explanation-guided Regularization Technique,
    arXiv:2505.21595. The authors' code: https://github.com/Shreyas-Gururaj/LRP_Relevance_Dropout.

    Deviations: (1) relevance is conserved (the code's is not, where branches are added); (2) the coin ``p``
    is tossed for every sample, in the code for the batch; (3) the absent value is the task's, for normalised
    images 0, their mean; (4) nodes of graphs, tokens and instants are positions too; (5) ``every``, ``average``,
    ``alpha_end`` and ``blocks`` are ours, and off.

    Example:
        >>> from regathlon_core import Budget, Recipe, RelDrop, fit
        >>> from regathlon_core.testing import ToyImages
        >>> task = ToyImages()
        >>> fit(task.model(seed=0), task, RelDrop(), Recipe(budget=Budget(steps=2))).cost.steps
        2
    """

    Settings = RelDropSettings
    steps: Tensor
    progress: Tensor

    def __init__(self, settings: RelDropSettings | None = None, /, **keywords: Any) -> None:
        super().__init__(settings, **keywords)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))
        self._model: tuple[nn.Module, ...] = ()  # in a tuple, so that it is no submodule

    def attach(self, model: nn.Module, task: Task | None = None) -> None:
        """Begin the average of the model's weights, where relevance is to be asked of that."""
        if self.settings.average:
            self._model = (model,)
            for number, parameter in enumerate(model.parameters()):
                average = parameter.detach().clone()
                if average.dtype in (torch.float16, torch.bfloat16):
                    average = average.float()
                self.register_buffer(f"average_{number}", average)

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Return the batch with relevant parts occluded."""
        settings = self.settings
        if settings.p == 0:
            return batch
        attributed = task.attributed(batch.inputs)
        group = task.graph_of_node(batch.inputs)
        positions = attributed[:, 0] if group is None and attributed.ndim > 2 else attributed
        blocks = settings.mode == "block" or (settings.mode == "auto" and positions.ndim == 3)
        usual = _BLOCKS if blocks else _PIXELS if "grid_inputs" in task.settings.provides else _POINTS
        p, alpha, beta = (
            usual_value if value is None else value
            for value, usual_value in zip((settings.p, settings.alpha, settings.beta), usual, strict=True)
        )
        alpha = self._alpha(alpha)
        samples = len(batch.targets)
        coin = sample_bernoulli((samples,), p, generator=generator, device=attributed.device)
        part = batch
        separable = isinstance(batch.inputs, Tensor) and isinstance(batch.targets, Tensor) and group is None
        if separable:
            chosen = coin.nonzero()[:, 0]
            if not len(chosen):
                return batch
            part = _part(batch, chosen)
        if alpha == 1 or int(self.steps) % settings.every:  # chance alone decides
            relevance = torch.zeros_like(task.attributed(part.inputs), dtype=torch.float32).sum(dim=1)
            alpha = 1.0
        else:
            relevance = self._relevance(model, part, task, generator)
        if blocks:
            where = sample_relevant_blocks(
                relevance,
                area=settings.area,
                aspect=settings.aspect,
                centers=settings.centers,
                blocks=settings.blocks,
                alpha=alpha,
                generator=generator,
            )
        else:
            where = sample_relevant_positions(relevance, alpha, beta, group=group, generator=generator)
        if separable:
            everywhere = torch.zeros((samples, *where.shape[1:]), dtype=torch.bool, device=where.device)
            return task.occlude(batch, everywhere.index_copy(0, chosen, where))
        tossed = coin[group] if group is not None else coin.view(-1, *(1,) * (where.ndim - 1))
        return task.occlude(batch, where & tossed)

    def after_step(self, progress: float) -> None:
        """Count the step, and move the average of the weights."""
        self.steps += 1
        self.progress.fill_(progress)
        if self._model:
            move_averages(self._averages(), self._model[0], self.settings.average)

    def diagnostics(self) -> Mapping[str, float]:
        """Return how much chance decides at the moment, where that is scheduled."""
        if self.settings.alpha_end is None or self.settings.alpha is None:
            return {}
        return {"alpha": self._alpha(self.settings.alpha)}

    def detach(self) -> None:
        """Forget the average."""
        self._model = ()
        for name in [name for name in self._buffers if name.startswith("average_")]:
            del self._buffers[name]

    def _alpha(self, alpha: float) -> float:
        end = self.settings.alpha_end
        return alpha if end is None else alpha + (end - alpha) * float(self.progress)

    def _averages(self) -> list[Tensor]:
        return [tensor for name, tensor in self.named_buffers() if name.startswith("average_")]

    def _relevance(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Tensor:
        averages = self._averages()
        with lent_weights(model, averages) if averages else contextlib.nullcontext():
            return relevance_of_positions(model, task, batch, generator, self._attribute())

    def _attribute(self) -> Callable[..., Tensor]:
        settings = self.settings
        if settings.attribution == "lrp":
            return functools.partial(lrp, composite=settings.composite)
        if settings.attribution == "gradient_x_input":
            return gradient_x_input
        return functools.partial(integrated_gradients, steps=settings.integration_steps)


def _part(batch: Batch, chosen: Tensor) -> Batch:
    """Return some samples of a batch."""
    fields = {
        name: value[chosen]
        for name, value in vars(batch).items()
        if isinstance(value, Tensor) and len(value) == len(batch.targets)
    }
    return batch.replace(mixed=None, **fields)
