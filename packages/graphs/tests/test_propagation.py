"""Sums over neighbours: the fast way, the plain way and dense matrices agree, and the fast one knows when to stand back."""

import pytest
import torch

from regathlon_core import UserError
from regathlon_core.subnetworks import subnetwork
from regathlon_graphs import NodeNetwork, constant
from regathlon_graphs.propagation import Propagation, normalized_edges, sparse_matrix
from regathlon_graphs.pyg import Graph


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def graph(generator, nodes=15, channels=40, dtype=torch.float64):
    edges = torch.randint(
        nodes - 2, (2, 3 * nodes), generator=generator
    )  # directed, repeated; two isolated nodes
    x = torch.rand(nodes, channels, generator=generator, dtype=dtype)
    return Graph(x=x * (x > 0.95), edge_index=edges)


def dense(edges, nodes, normalization):
    a = torch.zeros(nodes, nodes, dtype=torch.float64)
    for source, target in edges.T.tolist():
        if source != target:
            a[target, source] += 1
    a += torch.eye(nodes)
    degrees = a.sum(1)
    return a / degrees[:, None] if normalization == "row" else a / (degrees[:, None] * degrees).sqrt()


@pytest.mark.parametrize("normalization", ["row", "symmetric"])
def test_both_ways_are_the_dense_product_and_so_are_their_gradients(normalization, generator):
    plain = graph(generator)
    a = dense(plain.edge_index, 15, normalization)
    x = torch.randn(15, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(15, 3, generator=generator, dtype=torch.float64)
    (expected,) = torch.autograd.grad((a @ x * weights).sum(), x)
    for found in (plain, constant(Graph(x=plain.x, edge_index=plain.edge_index))):
        out = Propagation(found, normalization).spread(x)
        torch.testing.assert_close(out, a @ x)
        torch.testing.assert_close(torch.autograd.grad((out * weights).sum(), x)[0], expected)


def test_a_sparse_matrix_is_twice_differentiable(generator):
    rows, columns = torch.randint(6, (20,), generator=generator), torch.randint(4, (20,), generator=generator)
    matrix = sparse_matrix(rows, columns, torch.rand(20, generator=generator, dtype=torch.float64), (6, 4))
    x = torch.randn(4, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: (matrix @ x).tanh(), x)
    assert torch.autograd.gradgradcheck(lambda x: (matrix @ x).tanh(), x)


def test_an_empty_matrix_is_zero():
    none = torch.zeros(0, dtype=torch.int64)
    assert torch.equal(
        sparse_matrix(none, none, torch.zeros(0), (3, 2)) @ torch.ones(2, 4), torch.zeros(3, 4)
    )


def test_a_model_trains_alike_on_a_constant_graph(generator):
    plain = graph(generator)
    fast = constant(Graph(x=plain.x, edge_index=plain.edge_index))
    model = NodeNetwork(40, 3, hidden=4).double()
    gradients = []
    for given in (plain, fast):
        model.zero_grad()
        out = model(given)
        out.square().sum().backward()
        gradients.append([out, *(parameter.grad for parameter in model.parameters())])
    assert fast.constant.features(fast.x) is not None
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_other_features_or_edges_in_a_constant_graph_are_used(generator):
    fast = constant(graph(generator))
    model = NodeNetwork(40, 3, hidden=4).double()
    fast.x, fast.edge_index = fast.x * 2, fast.edge_index[:, 5:]
    torch.testing.assert_close(model(fast), model(Graph(x=fast.x, edge_index=fast.edge_index)))


def test_gradients_reach_the_features_of_a_constant_graph(generator):
    fast = constant(graph(generator))
    fast.x.requires_grad_()
    NodeNetwork(40, 3, hidden=4).double()(fast).sum().backward()
    assert fast.x.grad is not None


def test_dense_features_stay_dense(generator):
    assert (
        constant(
            Graph(x=torch.ones(4, 3), edge_index=torch.zeros(2, 0, dtype=torch.int64))
        ).constant._features
        is None
    )


def test_sub_networks_see_plain_calls(generator):
    fast = constant(graph(generator))
    plain = Graph(x=fast.x, edge_index=fast.edge_index)
    model = NodeNetwork(40, 3, hidden=10).double()
    with subnetwork(model, 0.5, output_layers=model.output_layers()):
        narrow, expected = model(fast), model(plain)
    assert torch.equal(narrow, expected)


def test_every_node_has_one_loop():
    edges, weight = normalized_edges(torch.tensor([[0, 1, 1], [0, 0, 1]]), 3, "row")
    assert [tuple(edge) for edge in edges.T.tolist()] == [(1, 0), (0, 0), (1, 1), (2, 2)]
    assert weight.tolist() == [0.5, 0.5, 1.0, 1.0]


def test_an_unknown_normalization_names_the_valid_ones():
    with pytest.raises(UserError, match="Did you mean 'row'"):
        normalized_edges(torch.zeros(2, 0, dtype=torch.int64), 2, "rows")
