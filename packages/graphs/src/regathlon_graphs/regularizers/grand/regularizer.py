"""GRAND's random propagation and consistency, for any model of graphs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from regathlon_core.passes import PassRole, run_as
from regathlon_core.regularizer import Regularizer
from regathlon_core.task import Batch, Task
from regathlon_graphs.changes import drop_nodes
from regathlon_graphs.regularizers.grand.settings import GrandSettings


class Grand(Regularizer[GrandSettings]):
    """Train on several graphs with nodes dropped, and have the predictions for all nodes agree.

    The loss is the mean of the task's loss over the graphs, plus ``weight`` times the mean squared distance of each
    prediction from the sharpened average prediction, which is taken as a constant.

    Source: Feng et al.: Graph Random Neural Networks for Semi-Supervised Learning on Graphs, NeurIPS 2020, sections 3.1 and
    3.2, equations 3 to 6. Reference code: https://github.com/THUDM/GRAND.

    Deviation: (1) the paper propagates features K times and classifies them by a perceptron; here the model propagates, as it
    does without, so that any model can be trained so. (2) Predictions are of whatever the model predicts: nodes, or graphs.

    Example:
        >>> Grand(views=2).settings.weight
        1.0
    """

    Settings = GrandSettings

    def losses(
        self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the one loss: all predictions are needed for their average."""
        settings = self.settings
        outputs, loss = [], torch.zeros((), device=generator.device)
        for view in range(settings.views):
            seen = batch.replace(inputs=drop_nodes(batch.inputs, settings.p, generator=generator))
            with run_as(model, PassRole.SUB if view else PassRole.FULL):
                outputs.append(task.predict(model, seen))
            loss = loss + task.criterion(outputs[-1], seen) / settings.views
        yield loss + settings.weight * consistency(outputs, settings.temperature)


def consistency(outputs: Sequence[Tensor], temperature: float) -> Tensor:
    """Return the mean squared distance of predictions from their sharpened average (equations 4 to 6).

    Args:
        outputs: Logits [N, K] of each view.
        temperature: Below 1 it sharpens.

    Example:
        >>> round(float(consistency([torch.tensor([[50.0, 0.0]])] * 2, 0.5)), 6)
        0.0
    """
    predicted = torch.stack([output.float().softmax(dim=1) for output in outputs])
    sharp = (predicted.detach().mean(dim=0) ** (1 / temperature)).clamp_min(1e-30)
    sharp = sharp / sharp.sum(dim=1, keepdim=True)
    return (predicted - sharp).square().sum(dim=2).mean()
