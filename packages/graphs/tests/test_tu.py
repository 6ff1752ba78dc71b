"""Collections in TU Dortmund's format: reading, splits, and the real PROTEINS and MUTAG."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from regathlon_core import Budget, UserError, fit
from regathlon_core.rng import global_stream
from regathlon_core.testing import assert_imports_lightly, task_checks
from regathlon_graphs import GraphGinSettings, MutagSettings, ProteinsSettings, TuSettings
from regathlon_graphs.graph_classification.tu import _folds, fold_split, random_split
from regathlon_graphs.graph_classification.tu_files import read_collection

SPLITS = ("train", "val", "test")
real = pytest.mark.skipif("REGATHLON_DATA" not in os.environ, reason="REGATHLON_DATA is not set")


@dataclasses.dataclass(frozen=True)
class ToySettings(TuSettings):
    name = "graphs/toy-collection"
    summary = "for tests"
    dataset = "toy-collection"
    folder = "TOY"


def drawn(count=40, seed=0):
    """Return graphs as lists: (nodes, edges one way, attributes, kinds of nodes, label)."""
    rng = np.random.default_rng(seed)
    graphs = []
    for number in range(count):
        nodes = 1 if number == 3 else int(rng.integers(2, 9))
        edges = sorted({(int(a), int(b)) for a, b in rng.integers(0, nodes, (2 * nodes, 2)) if a < b})
        if number == 5:
            edges = []
        label = 1 if rng.random() < 0.5 else -1
        graphs.append((nodes, edges, rng.normal(label, 1, nodes).round(3), rng.integers(0, 3, nodes), label))
    return graphs


def write(root, name="TOY", graphs=None):
    """Write graphs as TU Dortmund does; the first edge is there one way only, and node 1 has a loop."""
    graphs = graphs or drawn()
    folder = root / "TUDataset" / name / "raw"
    folder.mkdir(parents=True)
    lines = {key: [] for key in ("A", "graph_indicator", "graph_labels", "node_attributes", "node_labels")}
    before = 0
    for number, (nodes, edges, attributes, kinds, label) in enumerate(graphs, start=1):
        lines["graph_indicator"] += [number] * nodes
        lines["graph_labels"].append(label)
        lines["node_attributes"] += [f" {value:.6f}" for value in attributes]
        lines["node_labels"] += kinds.tolist()
        for a, b in edges:
            lines["A"] += [f"{before + a + 1}, {before + b + 1}", f"{before + b + 1}, {before + a + 1}"]
        before += nodes
    lines["A"] = ["1, 1", *lines["A"][1:]]
    for key, content in lines.items():
        (folder / f"{name}_{key}.txt").write_text("".join(f"{line}\n" for line in content))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    root = tmp_path_factory.mktemp("collections")
    write(root)
    return ToySettings().build(root)


def each(task):
    return [task._collection.together(torch.tensor([number])) for number in range(len(task._labels))]


def graphs_of(task):
    """Return all graphs and labels in the order of the file."""
    return list(zip(each(task), task._labels.tolist(), strict=True))


# ---- reading -----------------------------------------------------------------------------------------------


def test_what_was_written_is_read(task):
    known = drawn()
    assert task.classes == ("-1", "1")
    assert task.in_channels == 4
    for (graph, found), (nodes, edges, attributes, kinds, label) in zip(graphs_of(task), known, strict=True):
        assert found == (label + 1) // 2
        assert graph.num_nodes == nodes
        assert set(map(tuple, graph.edge_index.T.tolist())) == {*edges, *((b, a) for a, b in edges)}
        assert graph.edge_index.shape[1] == 2 * len(edges)
        assert torch.allclose(graph.x[:, 0], torch.from_numpy(attributes).float(), atol=1e-6)
        assert graph.x[:, 1:].argmax(1).tolist() == kinds.tolist()
        assert torch.equal(graph.x[:, 1:].sum(1), torch.ones(nodes))


@pytest.mark.parametrize(
    ("without", "columns"),
    [(["node_labels"], 1), (["node_attributes"], 3), (["node_labels", "node_attributes"], 1)],
)
def test_features_that_are_not_there(folder, without, columns):
    for part in without:
        (folder / f"TOY_{part}.txt").unlink()
    found = read_collection(folder, "TOY")
    assert found.features.shape[1] == columns
    if len(without) == 2:
        assert (found.features == 1).all()


def test_a_collection_without_edges_has_none(folder):
    (folder / "TOY_A.txt").write_text("")
    assert read_collection(folder, "TOY").edges.shape == (2, 0)


@pytest.mark.parametrize("part", ["A", "graph_indicator", "graph_labels"])
def test_a_missing_file_is_named(folder, part):
    (folder / f"TOY_{part}.txt").unlink()
    with pytest.raises(UserError, match=f"TOY_{part}.txt: There is no such file"):
        read_collection(folder, "TOY")


@pytest.mark.parametrize("settings", [ProteinsSettings(), MutagSettings()], ids=str)
def test_a_missing_data_set_is_named_with_the_command_that_gets_it(tmp_path, settings):
    with pytest.raises(UserError, match=f"{settings.folder}_A.txt.*regathlon data fetch {settings.dataset}"):
        settings.build(tmp_path)


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("A", lambda lines: [*lines, "1, 100000"], "two nodes of 1 to"),
        ("A", lambda lines: [*lines, "0, 1"], "two nodes of 1 to"),
        ("A", lambda lines: [*lines, "1, 100"], "different graphs"),
        ("A", lambda lines: [*lines, "5,"], "no table of numbers"),
        ("A", lambda lines: [line.split(",")[0] for line in lines], "two nodes"),
        ("A", lambda lines: ["caf\u00e9"], "no text"),
        ("graph_indicator", lambda lines: lines[:-5], "not one for each of the|two nodes of 1 to"),
        ("graph_indicator", lambda lines: lines[::-1], "must rise"),
        ("graph_indicator", lambda lines: [], "no node"),
        ("graph_indicator", lambda lines: ["1", *("3" for _ in lines[1:])], "Graph 2 has no node"),
        ("graph_labels", lambda lines: lines[:-1], "must rise from 1 to 39"),
        ("graph_labels", lambda lines: [*lines, "1"], "Graph 41 has no node"),
        ("node_labels", lambda lines: lines[:-1], "one for each"),
        ("node_attributes", lambda lines: [*lines[:-1], "nan"], "not finite"),
        ("node_attributes", lambda lines: [*lines[:-1], "1.5, 2"], "no table of numbers"),
    ],
)
def test_a_damaged_file_is_one_message(folder, part, change, said):
    path = folder / f"TOY_{part}.txt"
    path.write_text("\n".join(change(path.read_text().splitlines())), encoding="utf-8")
    with pytest.raises(UserError, match=said):
        read_collection(folder, "TOY")


def test_too_few_graphs_are_refused(tmp_path):
    write(tmp_path, graphs=drawn(9))
    with pytest.raises(UserError, match="9 graphs are too few"):
        ToySettings().build(tmp_path)


# ---- splits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [10, 40, 1113, 188])
def test_splits_have_the_shares_of_hgp_sl_and_every_graph_once(count):
    parts = random_split(count, 4)
    assert len(parts["train"]) == int(count * 0.8)
    assert len(parts["val"]) == int(count * 0.1)
    assert torch.cat([parts[split] for split in SPLITS]).sort().values.tolist() == list(range(count))


def test_splits_differ_by_their_number_alone():
    assert torch.equal(random_split(100, 2)["test"], random_split(100, 2)["test"])
    assert len({tuple(random_split(100, number)["test"].tolist()) for number in range(20)}) == 20


def test_over_many_splits_every_graph_is_tested_alike():
    """Each graph is in the test part of a tenth of the splits, within 5 sigma (of the largest of 100 graphs)."""
    splits, count = 400, 100
    tested = (
        torch.stack([random_split(count, number)["test"] for number in range(splits)]).flatten().bincount()
    )
    assert (tested - splits / 10).abs().max() < 5 * (splits * 0.1 * 0.9) ** 0.5


def test_a_split_is_hgp_sl_s():
    """There it is torch's random_split, after manual_seed."""
    known = torch.utils.data.random_split(
        range(100), [80, 10, 10], generator=torch.Generator().manual_seed(777)
    )
    for part, split in zip(known, SPLITS, strict=True):
        assert random_split(100, 777)[split].tolist() == list(part.indices)


def test_a_trial_s_seed_may_draw_the_split():
    assert ProteinsSettings().of_seed(7) == ProteinsSettings(split=7)
    assert ProteinsSettings(split=2).of_seed(7) == ProteinsSettings(split=2)


def test_folds_take_turns():
    folds = list(torch.arange(100).split(10))
    tested = [fold_split(folds, number) for number in range(10)]
    assert torch.cat([parts["test"] for parts in tested]).tolist() == list(range(100))
    for parts in tested:
        assert torch.cat([parts[split] for split in SPLITS]).sort().values.tolist() == list(range(100))
    assert tested[9]["val"].tolist() == list(range(10))


def test_folds_of_files_and_drawn_ones(tmp_path):
    labels = torch.arange(40) % 2
    drawn = _folds(tmp_path / "none", labels)
    assert [labels[fold].tolist() for fold in drawn] == [[0, 0, 1, 1]] * 10
    for number in range(1, 11):
        (tmp_path / f"test_idx-{number}.txt").write_text(f"{number}\n{number + 20}\n")
    assert [fold.tolist() for fold in _folds(tmp_path, labels)] == [[n, n + 20] for n in range(1, 11)]
    for text, said in (("2\n", "share a graph"), ("40\n", "outside of 0 to 39"), ("x", "damaged")):
        (tmp_path / "test_idx-1.txt").write_text(text)
        with pytest.raises(UserError, match=said):
            _folds(tmp_path, labels)


def test_a_negative_split_is_refused():
    with pytest.raises(UserError, match="split must be at least 0"):
        ProteinsSettings(split=-1)


# ---- as a task ---------------------------------------------------------------------------------------------


def test_it_conforms(task):
    for check in task_checks(task):
        check()


def test_declarations_of_collections_import_nothing_heavy():
    assert_imports_lightly([ProteinsSettings, MutagSettings])


# ---- the real ones -----------------------------------------------------------------------------------------

KNOWN = {
    "proteins": (ProteinsSettings, 1113, 43471, 162088, [663, 450], 4),
    "mutag": (MutagSettings, 188, 3371, 7442, [63, 125], 7),
}


@real
@pytest.mark.realdata
@pytest.mark.parametrize("name", KNOWN)
def test_real_collections_are_as_torch_geometric_reads_them(name, tmp_path):
    import shutil

    from torch_geometric.datasets import TUDataset  # after our own import, which silences its warnings

    settings, count, nodes, edges, classes, columns = KNOWN[name]
    root = Path(os.environ["REGATHLON_DATA"])
    task = settings().build(root)
    collection = task._collection
    assert (len(collection.nodes), len(collection.x)) == (count, nodes)
    assert collection.edge_index.shape[1] == edges
    assert task._labels.bincount().tolist() == classes
    assert task.in_channels == columns
    shutil.copytree(root / "TUDataset" / settings.folder / "raw", tmp_path / settings.folder / "raw")
    known = TUDataset(str(tmp_path), settings.folder, use_node_attr=True)
    for (graph, label), other in zip(graphs_of(task), known, strict=True):
        assert label == int(other.y)
        assert torch.equal(graph.x, other.x)
        assert torch.equal(graph.edge_index, other.edge_index)


@real
@pytest.mark.realdata
def test_mutag_is_learnt():
    task = MutagSettings().build(Path(os.environ["REGATHLON_DATA"]))
    with global_stream(0, "init"):
        model = GraphGinSettings().build(task)
    # At the task's own rate the last steps still throw batch-norm's statistics about: where they end is chance.
    recipe = dataclasses.replace(
        task.settings.recipe, lr=0.003, budget=Budget(epochs=60), eval_every=60, batch_size=32
    )
    result = fit(model, task, recipe=recipe, seed=0).history[-1]
    majority = 125 / 188
    assert task.evaluate(model, "train")["accuracy"] > majority + 0.15
    assert result.test["accuracy"] > majority
