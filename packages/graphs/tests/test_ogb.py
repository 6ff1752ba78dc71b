"""Data in OGB's format: its tables and what DatasetSaver writes, damage, caches, scores, clusters and neighbours."""

import builtins
import gzip
import io
import os
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

from regathlon_core import Budget, DropGraph, UserError, fit
from regathlon_core.testing import assert_imports_lightly, task_checks
from regathlon_graphs import (
    ArxivSettings,
    ClusteredSettings,
    MolBaceSettings,
    NodeSageSettings,
    OgbGcnSettings,
    OgbgSettings,
    OgbnSettings,
    ProductsSettings,
)
from regathlon_graphs.node_classification.clusters import (
    adjacency_of,
    cluster_order,
    sampled_neighbourhood,
    subgraph,
)
from regathlon_graphs.ogb_files import reading
from regathlon_graphs.ogb_files.reading import read_graphs, read_split
from regathlon_graphs.ogb_files.scoring import OgbMetrics
from regathlon_graphs.pyg import Graph

real = pytest.mark.skipif("REGATHLON_DATA" not in os.environ, reason="REGATHLON_DATA is not set")


@dataclass(frozen=True)
class OursSettings(OgbgSettings):
    """Small graphs of three classes."""

    name: ClassVar[str] = "graphs/ogbg-ours"
    summary: ClassVar[str] = "small graphs"
    dataset: ClassVar[str] = "ogbg-ours"
    folder: ClassVar[str] = "ogbg_ours"
    split_name: ClassVar[str] = "random"
    outputs: ClassVar[int] = 3
    both_ways: ClassVar[bool] = True
    provides: ClassVar[frozenset[str]] = frozenset(
        {"class_labels", "sample_labels", "features", "views", "soft_loss", "occlude", "edges"}
    )
    metric: ClassVar[str] = "acc"


@dataclass(frozen=True)
class NodesSettings(OgbnSettings):
    """A small graph."""

    name: ClassVar[str] = "graphs/ogbn-small"
    summary: ClassVar[str] = "a small graph"
    dataset: ClassVar[str] = "ogbn-small"
    folder: ClassVar[str] = "ogbn_small"
    split_name: ClassVar[str] = "random"
    outputs: ClassVar[int] = 4


@dataclass(frozen=True)
class PartsSettings(ClusteredSettings):
    """The same, in parts."""

    name: ClassVar[str] = "graphs/ogbn-small-parts"
    summary: ClassVar[str] = "a small graph in parts"
    dataset: ClassVar[str] = "ogbn-small"
    folder: ClassVar[str] = "ogbn_small"
    split_name: ClassVar[str] = "random"
    outputs: ClassVar[int] = 4
    clusters: int = 12
    fanouts: tuple[int, ...] = (4, 3)


def table(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(values).to_csv(path, header=False, index=False, compression="gzip")


def write_nodes(root, nodes=240, name="ogbn_small"):
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, 4, nodes))
    one = rng.integers(0, nodes, 4 * nodes)
    other = (one + rng.integers(1, 9, len(one))) % nodes
    folder = root / "OGB" / name
    table(folder / "raw" / "edge.csv.gz", np.stack([one, other], 1))
    table(folder / "raw" / "num-node-list.csv.gz", [nodes])
    table(folder / "raw" / "num-edge-list.csv.gz", [len(one)])
    table(folder / "raw" / "node-feat.csv.gz", np.eye(4)[labels] + 0.5 * rng.standard_normal((nodes, 4)))
    table(folder / "raw" / "node-label.csv.gz", labels)
    order = rng.permutation(nodes)
    for part, rows in zip(
        ("train", "valid", "test"), np.split(order, [nodes // 2, nodes * 3 // 4]), strict=True
    ):
        table(folder / "split" / "random" / f"{part}.csv.gz", rows)
    return folder


def graphs(count=40):
    """Rings, paths and stars; one has a single node, one no edge."""
    rng, made, labels = np.random.default_rng(1), [], []
    for number in range(count):
        size, kind = int(rng.integers(4, 9)), number % 3
        ring = np.stack([np.arange(size), (np.arange(size) + 1) % size])
        edges = {0: ring, 1: ring[:, :-1], 2: np.stack([np.zeros(size - 1, np.int64), np.arange(1, size)])}[
            kind
        ]
        size, edges = (1, edges[:, :0]) if number == 5 else (size, edges)
        edges = np.concatenate([edges, edges[::-1]], axis=1)
        made.append(
            {
                "edge_index": edges,
                "num_nodes": size,
                "node_feat": rng.integers(0, 3, (size, 2)),
                "edge_feat": rng.random((edges.shape[1], 2)).astype(np.float32),
            }
        )
        labels.append(kind)
    return made, np.array(labels)[:, None]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """What ogb's own DatasetSaver writes."""
    OgbMetrics("graph", "acc", 1)  # imports ogb as we do
    from ogb.io import DatasetSaver

    at = tmp_path_factory.mktemp("saved")
    made, labels = graphs()
    saver = DatasetSaver("ogbg-ours", is_hetero=False, version=1, root=str(at / "out"))
    saver.save_graph_list(made)
    saver.save_target_labels(labels)
    rows = np.random.default_rng(2).permutation(len(made))
    saver.save_split({"train": rows[:24], "valid": rows[24:32], "test": rows[32:]}, split_name="random")
    (at / "OGB").mkdir()
    Path(saver.dataset_dir).rename(at / "OGB" / "ogbg_ours")
    return at


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    at = tmp_path_factory.mktemp("nodes")
    write_nodes(at)
    return at


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch):
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("somebody was asked"))


# ---- reading -----------------------------------------------------------------------------------------------


def test_what_dataset_saver_wrote_is_read(saved):
    task = OursSettings().build(saved)
    made, labels = graphs()
    assert [task.size(split) for split in ("train", "val", "test")] == [24, 8, 8]
    batch = task.batch("test", torch.arange(8))
    assert batch.inputs.x.shape[1] == task.in_channels == 6
    assert (batch.inputs.x.sum(1) == 2).all()
    for place, row in enumerate(task._splits["test"].tolist()):
        nodes = (batch.inputs.batch == place).nonzero()[:, 0]
        inside = batch.inputs.batch[batch.inputs.edge_index[0]] == place
        assert len(nodes) == made[row]["num_nodes"]
        assert torch.equal(
            batch.inputs.edge_index[:, inside] - nodes[0], torch.tensor(made[row]["edge_index"])
        )
        np.testing.assert_array_equal(batch.inputs.edge_attr[inside].numpy(), made[row]["edge_feat"])
        wanted = torch.nn.functional.one_hot(torch.tensor(made[row]["node_feat"]), 3).flatten(1).float()
        assert torch.equal(batch.inputs.x[nodes], wanted)
        assert int(batch.targets[place]) == labels[row, 0]


def test_a_task_of_saved_data_conforms_and_trains(saved):
    settings = OursSettings()
    for check in task_checks(settings.build(saved)):
        check()
    task = settings.build(saved)
    for virtual in (False, True):
        model = OgbGcnSettings(hidden=8, layers=2, virtual_node=virtual, residual=virtual).build(task)
        recipe = replace(settings.recipe, budget=Budget(epochs=2), batch_size=8)
        result = fit(model, task, DropGraph(p=0.3, alpha=0.3, block_size=1), recipe)
        assert 0 <= result.history[-1].test["acc"] <= 1


def test_a_split_that_would_run_code_is_refused(tmp_path):
    at = tmp_path / "split" / "random"
    at.mkdir(parents=True)
    torch.save({"train": os.path.join}, at / "split_dict.pt")
    with pytest.raises(UserError, match="more than numbers"):
        read_split(tmp_path, "random", 3)
    (at / "split_dict.pt").write_bytes(pickle.dumps(3)[:4])
    with pytest.raises(UserError, match="damaged"):
        read_split(tmp_path, "random", 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda at: table(at / "split/random/test.csv.gz", [0, 1, 2]), "overlap"),
        (lambda at: table(at / "split/random/test.csv.gz", [999]), "outside of 0 to 239"),
        (lambda at: (at / "split/random/test.csv.gz").unlink(), "no such file"),
        (lambda at: table(at / "raw/num-node-list.csv.gz", [239]), "nodes and the rows of node-feat differ"),
        (lambda at: table(at / "raw/num-edge-list.csv.gz", [3]), "edges and the pairs of edge differ"),
        (lambda at: table(at / "raw/node-label.csv.gz", [0] * 239), "240 nodes and 239 labels"),
        (lambda at: table(at / "raw/node-label.csv.gz", [4] * 240), "no class of 0 to 3"),
        (lambda at: (at / "raw/node-feat.csv.gz").unlink(), "no features"),
        (lambda at: (at / "raw/edge.csv.gz").unlink(), "no such file"),
        (
            lambda at: table(at / "raw/edge.csv.gz", np.full((960, 2), 240)),
            "a node that its graph does not have",
        ),
        (
            lambda at: (at / "raw/edge.csv.gz").write_bytes((at / "raw/edge.csv.gz").read_bytes()[:500]),
            "truncated",
        ),
        (lambda at: (at / "raw/edge.csv.gz").write_bytes(gzip.compress(b"a,b\n")), "no table of numbers"),
    ],
)
def test_damage_is_told(tmp_path, change, said):
    folder = write_nodes(tmp_path)
    change(folder)
    with pytest.raises(UserError, match=said) as caught:
        NodesSettings().build(tmp_path)
    assert caught.value.where


def test_large_files_are_cached_completely_or_not_at_all(tmp_path, monkeypatch):
    folder = write_nodes(tmp_path)
    plain = read_graphs(folder)
    monkeypatch.setattr(reading, "_CACHED_FROM", 0)
    monkeypatch.setattr(reading, "_LINES", 100)
    with monkeypatch.context() as killed:
        killed.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            read_graphs(folder)
    assert not list(folder.glob("regathlon*"))
    first = read_graphs(folder)
    stamp = (folder / "regathlon-1" / "source.json").stat().st_mtime_ns
    again = read_graphs(folder)
    assert (folder / "regathlon-1" / "source.json").stat().st_mtime_ns == stamp
    assert not list((folder / "regathlon-1").glob("*.rows"))
    for name, array in vars(plain).items():
        for cached in (first, again):
            found = getattr(cached, name)
            assert (array is None) is (found is None)
            assert array is None or np.array_equal(array, found)
    table(folder / "raw" / "edge.csv.gz", np.zeros((960, 2), np.int64))
    assert not read_graphs(folder).edge_index.any()


# ---- scores ------------------------------------------------------------------------------------------------


def test_scores_are_ogb_s(capsys):
    rng = np.random.default_rng(0)
    truth, predicted = (
        rng.integers(0, 2, (50, 3)).astype(np.float32),
        rng.standard_normal((50, 3)).astype(np.float32),
    )
    truth[:5, 1] = np.nan
    metrics = OgbMetrics("graph", "rocauc", 3)
    for rows in (slice(0, 20), slice(20, 50)):
        metrics.update(torch.tensor(predicted[rows]), _targets(truth[rows]))
    areas = []
    for t, p in zip(truth.T, predicted.T, strict=True):
        yes, no = p[t == 1], p[t == 0]
        areas.append((yes[:, None] > no).mean())
    assert metrics.compute()["rocauc"] == pytest.approx(np.mean(areas))


def test_a_score_that_is_not_defined_is_nan():
    metrics = OgbMetrics("graph", "rocauc", 1)
    metrics.update(torch.rand(4, 1), _targets(np.ones((4, 1), np.float32)))
    assert np.isnan(metrics.compute()["rocauc"])


def _targets(values):
    from regathlon_core.task import Batch

    return Batch(None, torch.tensor(values))


# ---- nodes, whole and in parts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [NodesSettings(), PartsSettings(), PartsSettings(loading="neighbours")], ids=str
)
def test_tasks_of_nodes_conform(settings, root):
    for check in task_checks(settings.build(root)):
        check()


def test_clusters_are_a_partition_of_equal_sizes_and_keep_more_edges_than_chance(root):
    task = PartsSettings().build(root)
    assert sorted(task._order.tolist()) == list(range(240))
    assert np.diff(task._begins).tolist() == [20] * 12
    cluster = np.empty(240, int)
    cluster[task._order] = np.repeat(np.arange(12), 20)
    rows = np.repeat(np.arange(240), np.diff(task.adjacency.begins))
    inside = (cluster[rows] == cluster[task.adjacency.columns]).mean()
    assert inside > 3 / 12  # of random clusters it is 1/12


def test_a_batch_of_clusters_has_all_edges_among_its_nodes(root):
    whole, parts = NodesSettings().build(root), PartsSettings().build(root)
    full = whole.batch("train", torch.arange(whole.size("train"))).inputs
    batch = parts.batch("train", torch.tensor([3, 0]))
    nodes = np.concatenate([parts._order[60:80], parts._order[:20]])
    inside = torch.isin(full.edge_index, torch.from_numpy(nodes)).all(0)
    wanted = {tuple(edge) for edge in full.edge_index[:, inside].T.tolist()}
    assert {tuple(nodes[edge].tolist()) for edge in batch.inputs.edge_index.T.numpy()} == wanted
    assert torch.equal(batch.inputs.x, full.x[nodes])
    asked = batch.targets != parts.ignore_index
    assert set(nodes[asked]) == set(nodes) & set(parts._splits["train"].tolist())


def test_a_graphsage_is_evaluated_on_the_whole_graph(root):
    task = PartsSettings().build(root)
    model = NodeSageSettings(hidden=8, layers=3, norm=True).build(task)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    rows = np.repeat(np.arange(240), np.diff(task.adjacency.begins))
    edges = torch.from_numpy(np.stack([task.adjacency.columns, rows]).astype(np.int64))
    logits = model.eval()(Graph(x=torch.from_numpy(task._features), edge_index=edges))
    found = task.evaluate_splits(model, ("val", "test"))
    for split in ("val", "test"):
        nodes = task._splits[split]
        assert found[split]["acc"] == pytest.approx(
            float((logits[nodes].argmax(1) == task._labels[nodes]).double().mean())
        )


def test_neighbours_are_drawn_anew_each_epoch_and_never_too_many(root):
    task = PartsSettings(loading="neighbours").build(root)
    seeds = np.array([7, 100, 3])
    nodes, edges = sampled_neighbourhood(task.adjacency, seeds, (4, 3), np.random.default_rng(0))
    assert nodes[:3].tolist() == seeds.tolist()
    assert len(np.unique(nodes)) == len(nodes)
    near = {(a, b) for a in range(240) for b in task.adjacency.of(np.array([a]))[1].tolist()}
    assert {(b, a) for a, b in nodes[edges].T.tolist()} <= near
    assert np.bincount(edges[1])[:3].max() <= 4
    same, other = (
        sampled_neighbourhood(task.adjacency, seeds, (4, 3), np.random.default_rng(s))[0] for s in (0, 1)
    )
    assert np.array_equal(same, nodes)
    assert not np.array_equal(other, nodes)


def test_isolated_nodes_and_loops_have_no_neighbours():
    adjacency = adjacency_of(np.array([[0, 2, 1], [0, 1, 2]]), 4)
    assert np.diff(adjacency.begins).tolist() == [0, 2, 2, 0]
    assert sorted(cluster_order(adjacency, 2, np.random.default_rng(0)).tolist()) == [0, 1, 2, 3]
    assert subgraph(adjacency, np.array([3, 0])).shape == (2, 0)


def test_more_clusters_than_nodes_are_refused(root):
    with pytest.raises(UserError, match="241 clusters are more than the graph's 240 nodes"):
        PartsSettings(clusters=241).build(root)


@pytest.mark.parametrize(
    "changes", [{"loading": "all"}, {"clusters": 0}, {"fanouts": ()}, {"fanouts": (3, 0)}]
)
def test_loading_that_makes_no_sense_is_refused(changes):
    with pytest.raises(UserError):
        PartsSettings(**changes)


def test_declarations_of_ogb_import_nothing_heavy():
    assert_imports_lightly([MolBaceSettings, ArxivSettings, ProductsSettings])


# ---- the real one ------------------------------------------------------------------------------------------


@real
@pytest.mark.realdata
def test_molbace_is_what_ogb_reads(monkeypatch, capsys):
    task = MolBaceSettings().build(Path(os.environ["REGATHLON_DATA"]))
    assert [task.size(split) for split in ("train", "val", "test")] == [1210, 151, 152]
    OgbMetrics("graph", "rocauc", 1)
    from ogb.io.read_graph_raw import read_csv_graph_raw

    monkeypatch.setattr("sys.stderr", io.StringIO())  # its progress bar
    raw = Path(os.environ["REGATHLON_DATA"]) / "OGB" / "ogbg_molbace" / "raw"
    known = read_csv_graph_raw(str(raw), add_inverse_edge=True)
    batch = task.batch("test", torch.arange(5))
    for place, row in enumerate(task._splits["test"][:5].tolist()):
        nodes = (batch.inputs.batch == place).nonzero()[:, 0]
        inside = batch.inputs.batch[batch.inputs.edge_index[0]] == place
        edges = batch.inputs.edge_index[:, inside] - nodes[0]
        np.testing.assert_array_equal(edges.numpy(), known[row]["edge_index"])
        assert (batch.inputs.x[nodes].sum(1) == 9).all()
        assert (batch.inputs.edge_attr[inside].sum(1) == 3).all()
