"""DropGraph and its rivals on batches of graphs of many sizes: nothing is filled up, no graph sees another."""

import pytest
import torch

from regathlon_core import Disout, DropGraph, Dropout, FeaturePoint, SpatialDropout
from regathlon_core.features import groups_of_sizes, on_channels_first
from regathlon_core.regularizers.dropgraph.functional import sample_graph_vertices
from regathlon_core.regularizers.dropgraph.packing import pack_graphs
from regathlon_core.regularizers.dropgraph.reasoning import graph_reasoning, vertex_adjacency
from regathlon_core.rng import global_stream

SIZES = (1, 40, 3, 7, 90, 2, 0, 12)


@pytest.fixture
def batch():
    graph_of_node = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(len(graph_of_node), 8, generator=generator, dtype=torch.float64), graph_of_node


def branch(**settings):
    layer = DropGraph(alpha=0.3, block_size=1, reduction=1, **settings)
    with global_stream(0, "init"):
        layer.prepare([FeaturePoint("here", channels=8)])
    return layer, layer.branches["at_here"].double()


@pytest.mark.parametrize("adjacency", ["dissimilarity", "similarity", "identity", "uniform", "learned"])
def test_distortions_are_those_of_each_graph_by_itself(adjacency, batch):
    x, graph_of_node = batch
    _, made = branch(adjacency=adjacency, max_vertices=32)
    kept, found = made.of_graphs(x, graph_of_node, torch.Generator().manual_seed(3))
    assert torch.equal(kept, x)
    nodes, counts = sample_graph_vertices(graph_of_node, 0.3, generator=torch.Generator().manual_seed(3))
    for graph, (chosen, count) in enumerate(zip(nodes.split(counts.tolist()), counts.tolist(), strict=True)):
        assert count == min(SIZES[graph], max(1, round(0.3 * SIZES[graph])))
        assert len(chosen.unique()) == count
        assert (graph_of_node[chosen] == graph).all()
        if not count:
            assert not found[graph].any()
            continue
        vertices = x[chosen][None]
        edges = vertex_adjacency(vertices, adjacency, learned=made.edges)
        alone = graph_reasoning(vertices, edges, made.w1, made.w2, made.w3)
        torch.testing.assert_close(found[graph], alone[0].mean(0))


def test_every_node_is_as_likely_a_vertex():
    graph_of_node = torch.tensor([0] * 5 + [1] * 10)
    generator = torch.Generator().manual_seed(0)
    draws, seen = 4000, torch.zeros(15)
    for _ in range(draws):
        seen[sample_graph_vertices(graph_of_node, 0.4, generator=generator)[0]] += 1
    assert ((seen / draws - 0.4).abs() < 5 * (0.4 * 0.6 / draws) ** 0.5).all()


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
def test_vertices_are_the_nodes_of_least_numbers(alpha):
    """Sorted graph by graph, whatever is left out before the sorting."""
    sizes = torch.randint(1, 60, (200,), generator=torch.Generator().manual_seed(1))
    graph_of_node = torch.arange(200).repeat_interleave(sizes)
    for seed in range(5):
        nodes, counts = sample_graph_vertices(
            graph_of_node, alpha, generator=torch.Generator().manual_seed(seed)
        )
        drawn = torch.rand(
            len(graph_of_node), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
        )
        ends = sizes.cumsum(0).tolist()
        wanted = [
            (drawn[end - size : end].argsort()[:count] + end - size).tolist()
            for end, size, count in zip(ends, sizes.tolist(), counts.tolist(), strict=True)
        ]
        assert [chosen.tolist() for chosen in nodes.split(counts.tolist())] == wanted


@pytest.mark.parametrize("sizes", [SIZES, (0, 0), (), (5,), (32, 32, 33, 128, 129, 1), (3,) * 100])
def test_packed_graphs_lie_whole_in_one_row(sizes):
    counts = torch.tensor(sizes, dtype=torch.int64)
    packing = pack_graphs(counts)
    rows = [
        list(zip(*row, strict=True))
        for item, graph in zip(packing.blocks(packing.item), packing.blocks(packing.graph), strict=True)
        for row in zip(item.tolist(), graph.tolist(), strict=True)
    ]
    begins = (counts.cumsum(0) - counts).tolist()
    for graph, (begin, size) in enumerate(zip(begins, sizes, strict=True)):
        holding = [[item for item, of in row if of == graph] for row in rows]
        assert [items for items in holding if items] == ([list(range(begin, begin + size))] if size else [])
    assert all(item == 0 for row in rows for item, of in row if of == -1)
    assert sum(of >= 0 for row in rows for _, of in row) == sum(sizes)


def test_sizes_of_a_group_are_alike():
    groups = groups_of_sizes(torch.tensor(SIZES))
    assert sorted(torch.cat(groups).tolist()) == [0, 1, 2, 3, 4, 5, 7]
    for group in groups:
        sizes = torch.tensor(SIZES)[group]
        assert sizes.max() < 4 * sizes.min()


def test_gradients_reach_the_graph_and_only_dropped_nodes_change(batch):
    x, graph_of_node = batch
    x.requires_grad_()
    layer, made = branch(p=0.5)
    layer._generator = torch.Generator().manual_seed(0)
    out = layer._act_on_graphs(x, graph_of_node, "here")
    changed = (out != x).any(1)
    assert 0 < changed.sum() < len(x)
    out.sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in made.parameters())
    assert torch.equal(x.grad[~changed] != 0, torch.ones_like(x[~changed], dtype=torch.bool))


@pytest.mark.parametrize("graph_of_node", [[], [0], [3, 3]])
def test_batches_of_hardly_any_nodes(graph_of_node):
    layer, _ = branch(p=1.0)
    layer._generator = torch.Generator().manual_seed(0)
    x = torch.randn(len(graph_of_node), 8, dtype=torch.float64, requires_grad=True)
    out = layer._act_on_graphs(x, torch.tensor(graph_of_node, dtype=torch.int64), "here")
    assert out.shape == x.shape
    assert not out.any()  # a single vertex has no other: A = 0
    out.sum().backward()
    assert not x.grad.any()


@pytest.mark.parametrize("grouping", ["batch", "size", "node"])
def test_groupings_put_every_node_back(grouping, batch):
    x, graph_of_node = batch

    def double(view, present):
        if present is not None:
            assert not view.transpose(1, 2)[~present].any()
        return view * 2

    assert torch.equal(on_channels_first(x, "nodes", double, graph_of_node, grouping), x * 2)


@pytest.mark.parametrize(
    ("layer", "grouping"),
    [
        (Dropout(), "node"),
        (SpatialDropout(mode="position"), "node"),
        (SpatialDropout(mode="channel"), "size"),
        (Disout(block_size=1), "node"),
        (Disout(block_size=3), "batch"),
        (DropGraph(), "size"),
    ],
)
def test_who_sees_how_much_of_a_batch(layer, grouping):
    assert layer.grouping() == grouping
