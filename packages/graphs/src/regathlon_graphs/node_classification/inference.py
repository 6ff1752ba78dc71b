"""Logits of all nodes of a large graph, layer by layer, so that memory holds two layers and a part of the edges."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regathlon_graphs.models.networks import NodeNetwork
from regathlon_graphs.node_classification.clusters import Adjacency
from regathlon_graphs.propagation import SparseMatrix
from regathlon_graphs.pyg import SAGEConv

_NODES = 100_000
"""Whose neighbours are summed at once."""


def can_go_by_layers(model: NodeNetwork) -> bool:
    """Return whether the network is a GraphSAGE, none of whose layers looks at all nodes at once."""
    return isinstance(model.head, SAGEConv) and isinstance(model.pair_norm, nn.Identity)


def by_layers(
    model: NodeNetwork, adjacency: Adjacency, x: Tensor, device: torch.device | str = "cpu"
) -> Tensor:
    """Return logits [N, K] on the CPU.

    Args:
        model: A GraphSAGE, in evaluation mode.
        adjacency: Of the whole graph.
        x: Features [N, F]; mapped from disk will do.
        device: Where the linear layers are.
    """
    for block in model.blocks:
        x = _layer(block.conv, nn.Sequential(block.norm, block.act), adjacency, x, device)  # type: ignore[arg-type]
    return _layer(model.head, nn.Identity(), adjacency, x, device)


def _layer(
    conv: SAGEConv, after: nn.Module, adjacency: Adjacency, x: Tensor, device: torch.device | str
) -> Tensor:
    nodes = len(x)
    out = torch.empty(nodes, conv.out_channels)
    for begin in range(0, nodes, _NODES):
        end = min(nodes, begin + _NODES)
        begins = torch.from_numpy(adjacency.begins[begin : end + 1])
        columns = torch.from_numpy(adjacency.columns[begins[0] : begins[-1]]).long()
        counts = begins.diff()
        weights = (1 / counts.clamp(min=1)).repeat_interleave(counts)
        mean = SparseMatrix(begins - begins[0], columns, weights, nodes, _no_gradient).multiply(x)
        out[begin:end] = after(conv.lin_l(mean.to(device)) + conv.lin_r(x[begin:end].to(device))).cpu()
    return out


def _no_gradient() -> SparseMatrix:
    raise RuntimeError("Inference layer by layer has no gradient.")
