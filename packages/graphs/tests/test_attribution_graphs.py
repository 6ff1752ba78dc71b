"""Relevance of node features through torch-geometric's message passing, of one graph and of batches."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core.attribution import Composite, Epsilon, lrp

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.")  # torch-geometric's own use of it
    from torch_geometric.data import Batch, Data
    from torch_geometric.nn import (
        GATConv,
        GCNConv,
        GINConv,
        SAGEConv,
        global_add_pool,
        global_max_pool,
        global_mean_pool,
    )

BUILD = {
    "gcn": lambda c_in, c_out: GCNConv(c_in, c_out),
    "gcn cached": lambda c_in, c_out: GCNConv(c_in, c_out, cached=True),
    "sage": lambda c_in, c_out: SAGEConv(c_in, c_out),
    "sage max": lambda c_in, c_out: SAGEConv(c_in, c_out, aggr="max"),
    "gin": lambda c_in, c_out: GINConv(nn.Sequential(nn.Linear(c_in, c_out), nn.ReLU())),
    "gat": lambda c_in, c_out: GATConv(c_in, c_out, heads=2, concat=False),
}


class Nodes(nn.Module):
    """Two layers that classify nodes."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.first, self.second = BUILD[kind](5, 16), BUILD[kind](16, 3)

    def forward(self, data: Data) -> Tensor:
        x = F.dropout(self.first(data.x, data.edge_index).relu(), training=self.training)
        return self.second(x, data.edge_index)


class Graphs(nn.Module):
    """One layer, and a pool over the nodes of each graph."""

    def __init__(self, pool: object) -> None:
        super().__init__()
        self.conv, self.head, self.pool = GCNConv(5, 16), nn.Linear(16, 3), pool

    def forward(self, data: Batch) -> Tensor:
        return self.head(self.pool(F.relu(self.conv(data.x, data.edge_index)), data.batch))


def randomised(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5
    return model


def graph(nodes: int, seed: int) -> Data:
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(nodes, (2, 3 * nodes), generator=generator)
    edges = torch.cat((edges, edges.flip(0)), 1)
    return Data(x=torch.rand(nodes, 5, generator=generator, dtype=torch.float64) + 0.1, edge_index=edges)


def features(data: Data) -> Tensor:
    return data.x


@pytest.mark.parametrize("composite", ["epsilon_plus_flat", "epsilon"])
@pytest.mark.parametrize("kind", BUILD)
def test_relevance_of_nodes_is_conserved(kind: str, composite: str) -> None:
    model, data = randomised(Nodes(kind)), graph(8, 1)
    labels = torch.arange(8) % 3
    relevance = lrp(model, data, labels, composite, wrt=features)
    assert relevance.shape == data.x.shape
    assert abs(float(relevance.sum()) - 8) < 1e-6
    assert not data.x.requires_grad


def test_only_the_neighbourhood_is_relevant() -> None:
    model = randomised(Nodes("gcn"))
    line = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])
    data = Data(x=graph(6, 2).x, edge_index=torch.cat((line, line.flip(0)), 1))
    weights = torch.zeros(6, 3, dtype=torch.float64)
    weights[0, 1] = 1
    relevant = lrp(model, data, weights, wrt=features).abs().sum(1) > 0
    assert relevant.tolist() == [True, True, True, False, False, False]


@pytest.mark.parametrize("pool", [global_add_pool, global_mean_pool, global_max_pool])
def test_batches_of_graphs(pool: object) -> None:
    model = randomised(Graphs(pool))
    graphs = [graph(5, 3), graph(7, 4), graph(4, 5)]
    batch = Batch.from_data_list(graphs)
    labels = torch.tensor([0, 2, 1])
    relevance = lrp(model, batch, labels, wrt=features)
    per_graph = torch.zeros(3, dtype=torch.float64).index_add(0, batch.batch, relevance.sum(1))
    torch.testing.assert_close(per_graph, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-6)
    alone = [
        lrp(model, Batch.from_data_list([one]), int(c), wrt=features)
        for one, c in zip(graphs, labels, strict=True)
    ]
    torch.testing.assert_close(relevance, torch.cat(alone))


def test_against_the_dense_propagation_matrix() -> None:
    model = randomised(Nodes("gcn"))
    ring = torch.stack((torch.arange(8), (torch.arange(8) + 1) % 8))  # no loops, no edge twice
    data = Data(
        x=graph(8, 6).x, edge_index=torch.cat((ring, ring.flip(0), torch.tensor([[0, 3], [3, 0]])), 1)
    )
    for layer in (model.first, model.second):
        nn.init.zeros_(layer.bias)
    # Without biases the epsilon rule is gradient × input of Â relu(Â X W) W.
    looped = torch.eye(8, dtype=torch.float64)
    looped[data.edge_index[1], data.edge_index[0]] = 1
    scale = looped.sum(1).rsqrt()
    normalised = scale[:, None] * looped * scale
    x = data.x.clone().requires_grad_()
    hidden = (normalised @ (x @ model.first.lin.weight.T)).relu()
    logits = normalised @ (hidden @ model.second.lin.weight.T)
    torch.testing.assert_close(logits, model.eval()(data))
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), x)
    relevance = lrp(model, data, 1, Composite(linear=Epsilon(1e-14)), init="logit", wrt=features)
    torch.testing.assert_close(relevance, gradient * data.x, rtol=1e-6, atol=1e-9)
