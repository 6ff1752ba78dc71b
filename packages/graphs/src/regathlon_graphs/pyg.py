"""What is used of torch-geometric, imported in one place.

Its import takes seconds, nearly all of them for ``torch._dynamo``, which torchvision needs too; so nothing
that the command line reads at plan time may import this module. On newer versions of torch it also warns of
``torch.jit.script``, which is torch-geometric's to replace and tells our users nothing.
"""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.")
    from torch_geometric.data import Batch as Graphs  # type: ignore[import-untyped]
    from torch_geometric.data import Data as Graph
    from torch_geometric.datasets import KarateClub  # type: ignore[import-untyped]
    from torch_geometric.nn import (  # type: ignore[import-untyped]
        GATConv,
        GINConv,
        MessagePassing,
        PairNorm,
        SAGEConv,
        global_add_pool,
        global_mean_pool,
    )

__all__ = [
    "GATConv",
    "GINConv",
    "Graph",
    "Graphs",
    "KarateClub",
    "MessagePassing",
    "PairNorm",
    "SAGEConv",
    "global_add_pool",
    "global_mean_pool",
]
