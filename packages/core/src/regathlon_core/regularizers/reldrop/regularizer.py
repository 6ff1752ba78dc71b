"""RelDrop of a step's inputs."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor, nn

from regathlon_core.attribution import gradient_x_input, lrp
from regathlon_core.ops.sampling import sample_bernoulli
from regathlon_core.regularizer import Regularizer
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
    model trains on the rest. Relevance is a constant: no second derivatives. The inputs of a composition are
    occluded before they are mixed.

    Source: Gururaj et al.: Relevance-driven Input Dropout: an Explanation-guided Regularization Technique,
    arXiv:2505.21595. The authors' code: https://github.com/Shreyas-Gururaj/LRP_Relevance_Dropout.

    Deviations: (1) relevance is conserved (the code's is not, where branches are added); (2) the coin ``p``
    is tossed for every sample, in the code for the batch; (3) the absent value is the task's, for normalised
    images 0, their mean; (4) nodes of graphs are positions too.

    Example:
        >>> from regathlon_core import Budget, Recipe, RelDrop, fit
        >>> from regathlon_core.testing import ToyImages
        >>> task = ToyImages()
        >>> fit(task.model(seed=0), task, RelDrop(), Recipe(budget=Budget(steps=2))).cost.steps
        2
    """

    Settings = RelDropSettings

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Return the batch with relevant parts occluded."""
        settings = self.settings
        if settings.p == 0:
            return batch
        relevance = self._relevance(model, batch, task, generator)
        blocks = settings.mode == "block" or (settings.mode == "auto" and relevance.ndim == 3)
        usual = _BLOCKS if blocks else _PIXELS if "grid_inputs" in task.settings.provides else _POINTS
        p, alpha, beta = (
            usual_value if value is None else value
            for value, usual_value in zip((settings.p, settings.alpha, settings.beta), usual, strict=True)
        )
        group = task.graph_of_node(batch.inputs)
        if blocks:
            where = sample_relevant_blocks(
                relevance,
                area=settings.area,
                aspect=settings.aspect,
                centers=settings.centers,
                alpha=alpha,
                generator=generator,
            )
        else:
            where = sample_relevant_positions(relevance, alpha, beta, group=group, generator=generator)
        samples = len(batch.targets)
        occluded = sample_bernoulli((samples,), p, generator=generator, device=where.device)
        coin = occluded[group] if group is not None else occluded.view(-1, *(1,) * (where.ndim - 1))
        return task.occlude(batch, where & coin)

    def _relevance(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Tensor:
        """Return how relevant each position is to its sample's class: [B, *positions], or [N] for nodes."""
        attribute = (
            functools.partial(lrp, composite=self.settings.composite)
            if self.settings.attribution == "lrp"
            else gradient_x_input
        )
        inputs = batch.inputs
        if isinstance(inputs, Tensor):  # half precision is autocast's business, which is off here
            inputs = inputs.to(next((parameter.dtype for parameter in model.parameters()), inputs.dtype))
        scores, classes = task.explained(batch, generator)
        with torch.autocast(classes.device.type, enabled=False):
            relevance = attribute(model, inputs, classes, wrt=task.attributed, forward=scores)
        return relevance.sum(dim=1)
