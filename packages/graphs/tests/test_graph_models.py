"""The networks against dense formulas, and what they may and may not depend on."""

import pytest
import torch

from regathlon_core import UserError
from regathlon_core.rng import global_stream
from regathlon_graphs import GraphGinSettings, GraphNetwork, NodeGatSettings, NodeNetwork, OgbGcn
from regathlon_graphs.graph_classification.collected import Collected
from regathlon_graphs.pyg import Graph, Graphs


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def random_graph(nodes, generator, channels=5, p=0.4):
    joined = (torch.rand(nodes, nodes, generator=generator) < p).triu(1)
    x = torch.randn(nodes, channels, generator=generator, dtype=torch.float64)
    return Graph(x=x, edge_index=(joined | joined.T).nonzero().T)


def built(network, *args, **kwargs):
    with global_stream(0, "init"):
        model = network(*args, **kwargs).double()
        for parameter in model.parameters():  # biases and GIN's eps begin at zero, which would hide them
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def permuted(graph, order):
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    return Graph(x=graph.x[order], edge_index=place[graph.edge_index])


def dense(graph):
    adjacency = torch.zeros(len(graph.x), len(graph.x), dtype=torch.float64)
    adjacency[graph.edge_index[0], graph.edge_index[1]] = 1.0
    return adjacency


def test_the_gcn_is_equation_9_of_its_paper(generator):
    graph = random_graph(12, generator)
    model = built(NodeNetwork, 5, 3, hidden=4)
    loops = dense(graph) + torch.eye(12, dtype=torch.float64)
    scale = loops.sum(1).rsqrt()
    a = scale[:, None] * loops * scale
    first, second = model.blocks[0].conv, model.head
    hidden = torch.relu(a @ graph.x @ first.lin.weight.T + first.bias)
    torch.testing.assert_close(model(graph), a @ hidden @ second.lin.weight.T + second.bias)


def test_the_gin_is_equation_4_1_of_its_paper(generator):
    graph = random_graph(9, generator)
    model = built(GraphNetwork, 5, 3, kind="gin", hidden=4, layers=2, norm=False)
    x = graph.x
    for block in model.blocks:
        x = torch.relu(block.conv.nn((1 + block.conv.eps) * x + dense(graph) @ x))
    torch.testing.assert_close(model(graph), model.head(x.sum(0, keepdim=True)))


def test_nodes_keep_their_logits_when_the_graph_is_permuted(generator):
    graph = random_graph(15, generator)
    order = torch.randperm(15, generator=generator)
    for settings in ({}, {"layers": 3, "norm": True}):
        model = built(NodeNetwork, 5, 4, **settings)
        torch.testing.assert_close(model(permuted(graph, order)), model(graph)[order])


KINDS = [("gin", "sum"), ("gin", "mean"), ("gcn", "sum"), ("gcn", "mean")]


@pytest.mark.parametrize(("kind", "pooling"), KINDS)
def test_graphs_keep_their_logits_when_their_nodes_are_permuted(kind, pooling, generator):
    graph = random_graph(10, generator)
    model = built(GraphNetwork, 5, 4, kind=kind, pooling=pooling)
    order = torch.randperm(10, generator=generator)
    torch.testing.assert_close(model(permuted(graph, order)), model(graph))


@pytest.mark.parametrize(("kind", "pooling"), KINDS)
def test_a_batch_of_graphs_is_the_graphs_one_by_one(kind, pooling, generator):
    graphs = [random_graph(nodes, generator) for nodes in (4, 9, 1, 6)]
    model = built(GraphNetwork, 5, 4, kind=kind, pooling=pooling).eval()
    together = model(Graphs.from_data_list(graphs))
    torch.testing.assert_close(together, torch.cat([model(graph) for graph in graphs]))
    assert together.shape == (4, 4)


def test_pooling_tells_twice_a_graph_from_once_where_it_should(generator):
    graph = random_graph(6, generator)
    twice = Graph(
        x=graph.x.repeat(2, 1), edge_index=torch.cat([graph.edge_index, graph.edge_index + 6], dim=1)
    )
    for pooling, differs in (("sum", True), ("mean", False)):
        model = built(GraphNetwork, 5, 4, pooling=pooling).eval()
        assert torch.allclose(model(twice), model(graph)) is not differs


def test_isolated_nodes_are_no_trouble():
    graph = Graph(x=torch.rand(3, 5, dtype=torch.float64), edge_index=torch.zeros(2, 0, dtype=torch.int64))
    assert torch.isfinite(built(NodeNetwork, 5, 2)(graph)).all()
    assert torch.isfinite(built(GraphNetwork, 5, 2, kind="gcn")(graph)).all()


@pytest.mark.parametrize(
    "make", [lambda: GraphNetwork(5, 2, pooling="avg"), lambda: GraphGinSettings(pooling="avg")]
)
def test_an_unknown_pooling_names_the_valid_ones(make):
    with pytest.raises(UserError, match=r"no pooling 'avg'.*'mean', 'sum'"):
        make()


EMPTY = Graph(x=torch.zeros(0, 5), edge_index=torch.zeros(2, 0, dtype=torch.int64))
POINT = Graph(x=torch.rand(1, 5), edge_index=torch.zeros(2, 0, dtype=torch.int64))
LOOPED = Graph(x=POINT.x, edge_index=torch.zeros(2, 1, dtype=torch.int64))


@pytest.mark.parametrize("kind", ["gcn", "sage", "gat"])
def test_a_graph_of_one_node_or_none_has_defined_logits(kind):
    model = built(NodeNetwork, 5, 3, kind=kind).float()
    assert model(EMPTY).shape == (0, 3)
    assert torch.isfinite(model(POINT)).all()
    if kind == "gcn":  # every node has one loop, whether the graph says so or not
        torch.testing.assert_close(model(LOOPED), model(POINT))


@pytest.mark.parametrize("make", [lambda: GraphNetwork(5, 3, kind="gcn"), lambda: OgbGcn(5, 3, hidden=8)])
def test_a_batch_may_hold_a_graph_without_edges_and_one_without_nodes(make):
    model = make().eval()
    together = Collected([POINT, EMPTY, LOOPED]).together(torch.tensor([0, 1, 2, 1]))
    out = model(together)
    assert out.shape == (4, 3)
    assert torch.isfinite(out).all()
    torch.testing.assert_close(out[1], out[3])


def test_a_network_whose_shares_do_not_fit_is_refused():
    with pytest.raises(UserError, match="no multiple of heads"):
        NodeGatSettings(hidden=10, heads=4)
