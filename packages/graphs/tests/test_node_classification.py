"""Tasks of classifying nodes: their graphs, splits, batches, views and learning."""

import dataclasses
import math

import networkx as nx
import pytest
import torch
from torch import nn

from regathlon_core import Budget, SampleDraw, UserError, fit
from regathlon_core.rng import global_stream
from regathlon_data import load_digits
from regathlon_graphs import DigitGraph, DigitGraphSettings, Karate
from regathlon_graphs.node_classification.digits import nearest_neighbours

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module", params=[DigitGraph, Karate], ids=["digits", "karate"])
def task(request):
    return request.param()


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def whole(task, split):
    return task.batch(split, torch.arange(task.size(split)))


def edges_of(graph):
    return set(map(tuple, graph.edge_index.T.tolist()))


def fresh(task, **settings):
    with global_stream(0, "init"):
        return task.settings.models[0](**settings).build(task)


# ---- the graphs --------------------------------------------------------------------------------------------


def slow_neighbours(points, k):
    edges = set()
    for i, point in enumerate(points):
        others = [j for j in range(len(points)) if j != i]
        for j in sorted(others, key=lambda j: (float(((points[j] - point) ** 2).sum()), j))[:k]:
            edges |= {(i, j), (j, i)}
    return sorted(edges)


@pytest.mark.parametrize(("count", "k", "values"), [(30, 4, 17), (30, 4, 2), (12, 11, 3), (2, 1, 5)])
def test_nearest_neighbours_are_the_slow_loop(count, k, values, generator):
    points = torch.randint(0, values, (count, 3), generator=generator).float()
    assert nearest_neighbours(points, k).T.tolist() == [list(edge) for edge in slow_neighbours(points, k)]


def test_digits_are_joined_to_those_like_them():
    task = DigitGraph(DigitGraphSettings(neighbours=3))
    graph, digits = whole(task, "train").inputs, load_digits()
    assert graph.x.dtype == torch.float32
    assert float(graph.x.min()) == 0.0
    assert float(graph.x.max()) == 1.0
    assert torch.equal(graph.x * 16, torch.from_numpy(digits.images.copy()).flatten(1).float())
    same = task._labels[graph.edge_index]
    assert (same[0] == same[1]).float().mean() > 0.9
    degrees = graph.edge_index[0].bincount()
    assert int(degrees.min()) >= 3
    assert task._labels.tolist() == digits.labels.tolist()


def test_graphs_are_undirected_without_loops(task):
    edges = edges_of(whole(task, "train").inputs)
    assert len(edges) == whole(task, "train").inputs.edge_index.shape[1]
    assert edges == {(j, i) for i, j in edges}
    assert all(i != j for i, j in edges)


def test_karate_is_the_graph_that_networkx_has():
    known = nx.karate_club_graph()
    edges = edges_of(whole(Karate(), "train").inputs)
    assert {tuple(sorted(edge)) for edge in edges} == {tuple(sorted(edge)) for edge in known.edges}


@pytest.mark.parametrize("neighbours", [0, 1797])
def test_neighbours_out_of_range_are_refused(neighbours):
    with pytest.raises(UserError, match="1 to 1796"):
        DigitGraphSettings(neighbours=neighbours)


# ---- splits and batches ------------------------------------------------------------------------------------


def test_splits_share_no_node(task):
    parts = [task._splits[split].tolist() for split in SPLITS]
    assert sum(map(len, parts)) == len(set().union(*parts))


def test_splits_have_the_stated_sizes():
    digits = DigitGraph()
    assert [digits.size(split) for split in SPLITS] == [200, 500, 1000]
    assert digits._labels[digits._splits["train"]].bincount().tolist() == [20] * 10
    karate = Karate()
    assert [karate.size(split) for split in SPLITS] == [4, 10, 20]
    assert sorted(karate._labels[karate._splits["train"]].tolist()) == [0, 1, 2, 3]
    for split in ("val", "test"):
        assert set(karate._labels[karate._splits[split]].tolist()) == {0, 1, 2, 3}


def test_a_batch_shows_the_labels_that_were_asked_for_and_no_others(task):
    for split in SPLITS:
        index = torch.tensor([2, 0])
        batch = task.batch(split, index)
        nodes = task._splits[split][index]
        assert batch.targets.shape == (batch.inputs.num_nodes,)
        assert torch.equal(batch.targets[nodes], task._labels[nodes])
        assert sorted((batch.targets != -100).nonzero()[:, 0].tolist()) == sorted(nodes.tolist())
        assert torch.equal(batch.index, index)
        assert "y" not in batch.inputs
        assert "train_mask" not in batch.inputs


def test_an_epoch_is_one_step_on_all_training_nodes(task):
    (index,) = task.order(3, 1, 16)
    assert index.tolist() == list(range(task.size("train")))
    assert torch.equal(task.batch("train", index, SampleDraw(0, 0)).inputs.x, whole(task, "test").inputs.x)


def test_moving_or_changing_a_batch_leaves_the_task_alone(task):
    batch = whole(task, "train")
    moved = batch.to("meta")
    assert moved.inputs.x.is_meta
    del batch.inputs.edge_index
    assert not task._graph.x.is_meta
    assert whole(task, "train").inputs.edge_index is not None


# ---- what regularizers ask ---------------------------------------------------------------------------------


def test_dropped_edges_are_dropped_both_ways_at_the_stated_rate(generator):
    task = DigitGraph()
    batch = whole(task, "train")
    before = edges_of(batch.inputs)
    stream = task.views(batch, generator, ["edge_drop"])
    for _ in range(3):
        view = next(stream).batch
        after = edges_of(view.inputs)
        assert after < before
        assert after == {(j, i) for i, j in after}
        pairs = len(before) / 2
        assert abs(len(after) / len(before) - 0.8) < 5 * math.sqrt(0.2 * 0.8 / pairs)
        assert view.inputs.x is batch.inputs.x
        assert view.targets is batch.targets
    assert edges_of(batch.inputs) == before


def test_masked_features_are_zero_at_the_stated_rate(generator):
    task = DigitGraph()
    batch = whole(task, "train")
    batch = batch.replace(inputs=type(batch.inputs)(x=batch.inputs.x + 1, edge_index=batch.inputs.edge_index))
    view = next(task.views(batch, generator, ["feature_mask"])).batch
    masked = view.inputs.x == 0
    assert abs(float(masked.float().mean()) - 0.2) < 5 * math.sqrt(0.2 * 0.8 / masked.numel())
    assert torch.equal(view.inputs.x[~masked], batch.inputs.x[~masked])
    assert torch.equal(view.inputs.edge_index, batch.inputs.edge_index)


def test_views_combine_and_repeat_with_their_generator(task, generator):
    batch = whole(task, "train")
    first = task.views(batch, generator, ["edge_drop", "feature_mask"])
    again = task.views(batch, torch.Generator().manual_seed(0), ["edge_drop", "feature_mask"])
    graphs = []
    for _ in range(3):
        view, twin = next(first).batch.inputs, next(again).batch.inputs
        assert torch.equal(view.x, twin.x)
        assert torch.equal(view.edge_index, twin.edge_index)
        assert view.edge_index.shape[1] < batch.inputs.edge_index.shape[1]
        graphs.append(view)
    assert edges_of(graphs[0]) != edges_of(graphs[1])


def test_an_unknown_view_names_the_valid_ones(task, generator):
    with pytest.raises(UserError, match="Did you mean 'edge_drop'"):
        next(task.views(whole(task, "train"), generator, ["edge_drops"]))


def test_occluded_nodes_have_no_features(task):
    batch = whole(task, "train")
    before = batch.inputs.x.clone()
    where = torch.rand(batch.inputs.num_nodes, generator=torch.Generator().manual_seed(0)) < 0.4
    occluded = task.occlude(batch, where).inputs.x
    assert (occluded[where] == 0).all()
    assert torch.equal(occluded[~where], before[~where])
    assert torch.equal(batch.inputs.x, before)


def test_feature_points_are_where_the_published_dropout_is(task):
    model = fresh(task)
    (point,) = task.features(model)
    assert (point.module, point.channels, point.layout, point.default) == ("blocks.0", 16, "nodes", True)
    batch = whole(task, "train")
    plain = model(batch.inputs)
    model.get_submodule(point.module).register_forward_hook(lambda module, inputs, output: output * 0)
    # Without hidden features all that is left is the last layer's bias, which begins at zero.
    assert plain.abs().max() > 0
    assert (model(batch.inputs) == 0).all()
    assert [model.get_submodule(name) for name in task.output_layers(model)] == [model.head]


def test_a_model_without_feature_points_is_explained(task):
    with pytest.raises(UserError, match=r"Linear has no method output_layers\(\)"):
        task.output_layers(nn.Linear(3, 10))


# ---- learning ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"layers": 3, "norm": True}, {"dropout": 0.5}, {"layers": 1}])
def test_models_of_all_settings_train(task, settings):
    model = fresh(task, **settings)
    with global_stream(0, "dropout"):
        task.loss(model, whole(task, "train")).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("settings", [{"hidden": 0}, {"layers": 0}, {"dropout": 1.0}])
def test_model_settings_that_make_no_sense_are_refused(task, settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        task.settings.models[0](**settings)


def test_digits_are_learnt_in_seconds():
    task = DigitGraph()
    recipe = dataclasses.replace(task.settings.recipe, budget=Budget(epochs=60), eval_every=60)
    last = fit(fresh(task), task, recipe=recipe, seed=0).history[-1]
    assert last.test["accuracy"] > 0.85
    assert last.val["accuracy"] > 0.85


def test_karate_is_learnt_from_four_labels():
    task = Karate()
    recipe = dataclasses.replace(task.settings.recipe, budget=Budget(epochs=100), eval_every=100)
    labels = task._labels[task._splits["test"]]
    majority = float(labels.bincount().max()) / len(labels)
    assert fit(fresh(task), task, recipe=recipe, seed=0).history[-1].test["accuracy"] > majority + 0.15
