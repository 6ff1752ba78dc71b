"""DropNode, attached to a model of graphs."""

from __future__ import annotations

import torch
from torch import nn

from regathlon_core.regularizer import Regularizer
from regathlon_core.task import Batch, Task
from regathlon_graphs.changes import drop_nodes
from regathlon_graphs.regularizers.drop_node.settings import DropNodeSettings


class DropNode(Regularizer[DropNodeSettings]):
    """Set the input features of random nodes to zero in every training step, and scale those of the others up.

    Source: Feng et al.: Graph Random Neural Networks for Semi-Supervised Learning on Graphs, NeurIPS 2020, section 3.1.
    Reference code: https://github.com/THUDM/GRAND.

    Example:
        >>> DropNode(p=0.3).settings.p
        0.3
    """

    Settings = DropNodeSettings

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Return the batch with a changed copy of its graphs."""
        if self.settings.p == 0:
            return batch
        return batch.replace(inputs=drop_nodes(batch.inputs, self.settings.p, generator=generator))
