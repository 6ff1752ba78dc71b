"""DropGraph and its rivals on batches of graphs of many sizes: nothing is filled up, no graph sees another."""

import pytest
import torch

from regathlon_core import Disout, DropGraph, Dropout, FeaturePoint, SpatialDropout
from regathlon_core.features import groups_of_sizes, on_channels_first
from regathlon_core.regularizers.dropgraph.functional import (
    graph_reasoning,
    sample_graph_vertices,
    vertex_adjacency,
)
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


@pytest.mark.parametrize("adjacency", ["dissimilarity", "similarity", "identity", "uniform"])
def test_distortions_are_those_of_each_graph_by_itself(adjacency, batch):
    x, graph_of_node = batch
    _, made = branch(adjacency=adjacency)
    found = made.of_graphs(x, graph_of_node, torch.Generator().manual_seed(3))
    nodes, counts = sample_graph_vertices(graph_of_node, 0.3, generator=torch.Generator().manual_seed(3))
    for graph, (chosen, count) in enumerate(zip(nodes.split(counts.tolist()), counts.tolist(), strict=True)):
        assert count == min(SIZES[graph], max(1, round(0.3 * SIZES[graph])))
        assert len(chosen.unique()) == count
        assert (graph_of_node[chosen] == graph).all()
        if not count:
            assert not found[graph].any()
            continue
        vertices = x[chosen][None]
        alone = graph_reasoning(vertices, vertex_adjacency(vertices, adjacency), made.w1, made.w2, made.w3)
        torch.testing.assert_close(found[graph], alone[0].mean(0))


def test_every_node_is_as_likely_a_vertex():
    graph_of_node = torch.tensor([0] * 5 + [1] * 10)
    generator = torch.Generator().manual_seed(0)
    draws, seen = 4000, torch.zeros(15)
    for _ in range(draws):
        seen[sample_graph_vertices(graph_of_node, 0.4, generator=generator)[0]] += 1
    assert ((seen / draws - 0.4).abs() < 5 * (0.4 * 0.6 / draws) ** 0.5).all()


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
