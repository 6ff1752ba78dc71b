"""The task of clique numbers: labels, splits, batches and learning."""

import dataclasses
import itertools
import math

import networkx as nx
import pytest
import torch

from regathlon_core import Budget, fit
from regathlon_core.rng import global_stream
from regathlon_graphs import Atlas
from regathlon_graphs.pyg import Graph

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def task():
    return Atlas()


def whole(task, split):
    return task.batch(split, torch.arange(task.size(split)))


def part(graphs, number):
    """Return one graph of a batch."""
    nodes = graphs.batch == number
    edges = graphs.edge_index[:, nodes[graphs.edge_index[0]]] - graphs.ptr[number]
    return Graph(x=graphs.x[nodes], edge_index=edges)


def as_networkx(graph):
    known = nx.Graph(graph.edge_index.T.tolist())
    assert len(known) == graph.num_nodes
    return known


def has_clique(graph, size):
    return any(
        all(graph.has_edge(a, b) for a, b in itertools.combinations(nodes, 2))
        for nodes in itertools.combinations(graph.nodes, size)
    )


def test_labels_are_clique_numbers_found_by_trying_all_subsets(task):
    for split in SPLITS:
        batch = whole(task, split)
        for i, label in enumerate(batch.targets.tolist()):
            graph = as_networkx(part(batch.inputs, i))
            assert [has_clique(graph, size) for size in (2, 3, 4)] == [True, label >= 1, label >= 2]


def test_there_are_as_many_connected_graphs_as_are_known(task):
    """OEIS A001349: 21, 112 and 853 connected graphs of 5, 6 and 7 nodes."""
    sizes = torch.cat([whole(task, split).inputs.batch.bincount() for split in SPLITS])
    assert sizes.bincount(minlength=8).tolist() == [0, 0, 0, 0, 0, 21, 112, 853]


def test_no_two_graphs_are_isomorphic(task):
    kinds = {}
    for split in SPLITS:
        graphs = whole(task, split).inputs
        for i in range(graphs.num_graphs):
            graph = as_networkx(part(graphs, i))
            assert nx.is_connected(graph)
            around = [sorted(graph.degree[other] for other in graph[node]) for node in graph]
            kinds.setdefault((str(sorted(around)), *sorted(nx.triangles(graph).values())), []).append(graph)
    for alike in kinds.values():  # isomorphic graphs have the same key
        assert not any(nx.is_isomorphic(a, b) for a, b in itertools.combinations(alike, 2))


def test_classes_have_the_same_shares_in_every_split(task):
    counts = [whole(task, split).targets.bincount(minlength=3) for split in SPLITS]
    total = sum(counts)
    for split, count in zip(SPLITS, counts, strict=True):
        expected = total * task.size(split) / total.sum()
        assert (count - expected).abs().max() <= 2
    assert total.max() / total.sum() < 0.6


def test_degrees_do_not_tell_the_label(task):
    """Even who knows the best guess for each list of degrees is wrong for more than a tenth."""
    by_degrees = {}
    for split in SPLITS:
        batch = whole(task, split)
        for i, label in enumerate(batch.targets.tolist()):
            degrees = tuple(part(batch.inputs, i).x.sum(0).tolist())
            by_degrees.setdefault(degrees, []).append(label)
    right = sum(max(labels.count(label) for label in labels) for labels in by_degrees.values())
    assert right / 986 < 0.9


def test_features_are_degrees(task):
    graphs = whole(task, "val").inputs
    degrees = graphs.edge_index[0].bincount(minlength=graphs.num_nodes)
    assert torch.equal(graphs.x.sum(1), torch.ones(graphs.num_nodes))
    assert torch.equal(graphs.x.argmax(1) + 1, degrees)
    assert graphs.x.shape[1] == task.in_channels


def test_a_batch_has_the_graphs_and_labels_that_were_asked_for(task):
    index = torch.tensor([7, 1, 7])
    batch = task.batch("train", index)
    everything = whole(task, "train")
    assert torch.equal(batch.targets, everything.targets[index])
    assert torch.equal(batch.index, index)
    for place, i in enumerate(index.tolist()):
        one, same = part(batch.inputs, place), part(everything.inputs, i)
        assert torch.equal(one.x, same.x)
        assert torch.equal(one.edge_index, same.edge_index)


def test_views_do_not_join_graphs(task):
    batch = task.batch("train", torch.arange(20))
    stream = task.views(batch, torch.Generator().manual_seed(0), ["edge_drop", "feature_mask"])
    for _ in range(3):
        graphs = next(stream).batch.inputs
        assert isinstance(graphs, Graph)
        ends = graphs.batch[graphs.edge_index]
        assert torch.equal(ends[0], ends[1])
        assert graphs.num_graphs == 20
        assert graphs.edge_index.shape[1] < batch.inputs.edge_index.shape[1]
        assert int((graphs.x == 0).all(1).sum()) > 0


@pytest.mark.parametrize("which", [0, 1])
def test_it_learns_more_than_the_majority(task, which):
    with global_stream(0, "init"):
        model = task.settings.models[which]().build(task)
    recipe = dataclasses.replace(task.settings.recipe, budget=Budget(epochs=6), eval_every=6)
    accuracy = fit(model, task, recipe=recipe, seed=0).history[-1].test["accuracy"]
    labels = whole(task, "test").targets
    majority = float(labels.bincount().max()) / len(labels)
    assert accuracy > majority + 3 * math.sqrt(majority * (1 - majority) / len(labels))


def test_feature_points_are_the_layers_with_the_last_left_to_choice(task):
    with global_stream(0, "init"):
        model = task.settings.models[0](layers=3).build(task)
    points = task.features(model)
    assert [(point.module, point.default) for point in points] == [
        ("blocks.0", True),
        ("blocks.1", True),
        ("blocks.2", False),
    ]
    assert {point.layout for point in points} == {"nodes"}
