"""Graph convolutions with one signature: features [N, C] and the edges of one pass to features [N, C']."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from regathlon_graphs.propagation import Propagation
from regathlon_graphs.pyg import GATConv, GINConv, SAGEConv

Kind = Literal["gcn", "gin", "gat", "sage"]


class Convolution(nn.Module):
    """Kipf and Welling's: a linear map of the features, then the weighted sum over neighbours, then a bias.

    The weights' names are those of torch-geometric's ``GCNConv``.

    Args:
        channels: C.
        out: C'.
        init: ``"glorot"``, with biases of zero; or ``"uniform"``: weights and biases from U(-1/√C', 1/√C'), as
            https://github.com/tkipf/pygcn has it.
    """

    def __init__(self, channels: int, out: int, init: str = "glorot") -> None:
        super().__init__()
        self.lin = nn.Linear(channels, out, bias=False)
        self.bias = nn.Parameter(torch.zeros(out))
        if init == "uniform":
            bound = 1 / math.sqrt(out)
            nn.init.uniform_(self.lin.weight, -bound, bound)
            nn.init.uniform_(self.bias, -bound, bound)
        else:
            nn.init.xavier_uniform_(self.lin.weight)

    def forward(self, x: Tensor, edges: Propagation) -> Tensor:
        """Return the new features."""
        return edges.spread(edges.linear(x, self.lin)) + self.bias


def convolution(kind: Kind, channels: int, out: int, *, init: str = "glorot", heads: int = 1) -> nn.Module:
    """Return a convolution.

    Args:
        kind: ``"gcn"``; ``"gin"`` with two linear layers and a learned weight of the node itself; ``"gat"``, whose heads'
            outputs are concatenated; or ``"sage"``, with the mean of the neighbours.
        channels: C.
        out: C'; of a GAT a multiple of ``heads``.
        init: Of a GCN's weights.
        heads: Of a GAT.
    """
    if kind == "gcn":
        return Convolution(channels, out, init)
    layer: nn.Module
    if kind == "gin":
        inside = nn.Sequential(nn.Linear(channels, out), nn.ReLU(), nn.Linear(out, out))
        layer = GINConv(inside, train_eps=True)
    elif kind == "gat":
        layer = GATConv(channels, out // heads, heads=heads)
    else:
        layer = SAGEConv(channels, out)
    return layer


def convolve(layer: nn.Module, x: Tensor, edges: Propagation) -> Tensor:
    """Apply a convolution: ours to the normalised edges, torch-geometric's to the edges as they are."""
    out: Tensor = layer(x, edges if isinstance(layer, Convolution) else edges.edge_index)
    return out
