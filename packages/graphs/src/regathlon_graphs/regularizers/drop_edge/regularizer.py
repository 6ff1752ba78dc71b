"""DropEdge, attached to a model of graphs."""

from __future__ import annotations

import torch
from torch import nn

from regathlon_core.regularizer import Regularizer
from regathlon_core.task import Batch, Task
from regathlon_graphs.changes import drop_edges
from regathlon_graphs.regularizers.drop_edge.settings import DropEdgeSettings


class DropEdge(Regularizer[DropEdgeSettings]):
    """Drop edges of the graphs in every training step, both ways at once; the degrees are those of what is left.

    Source: Rong, Huang, Xu, Huang: DropEdge: Towards Deep Graph Convolutional Networks on Node Classification, ICLR 2020,
    section 4. Reference code: https://github.com/DropEdge/DropEdge.

    Deviation: (1) edges are dropped one by one with probability p; the paper keeps an exact number of them.

    Example:
        >>> DropEdge(p=0.3).settings.p
        0.3
    """

    Settings = DropEdgeSettings

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Return the batch with a changed copy of its graphs."""
        if self.settings.p == 0:
            return batch
        return batch.replace(inputs=drop_edges(batch.inputs, self.settings.p, generator=generator))
