"""What a run measured beside what papers printed."""

import csv
import json
import math

import numpy as np
import pytest
from scipy import stats

from regathlon import plugins
from regathlon.cli import main
from regathlon.ledger import ledger
from regathlon.papers import COLUMNS, papers, read_paper
from regathlon.results import read_results
from regathlon_core.errors import UserError
from regathlon_core.notation import parse, parse_one

YAML = """\
paper: Toy
title: A toy
card: none
datasets: {Blobs: [made, made-subset]}
models: {MLP: mlp, MLP@Tricks: mlp(wide=true)}
metrics:
  acc: {name: accuracy, scale: 100}
  error: {name: accuracy, scale: -100, offset: 100}
  acc_here: {name: accuracy, scale: 100, task: {test: here}}
  acc_there: {name: accuracy, scale: 100, task: {test: there}}
  attacked: {name: attack/left, scale: 100}
  acc_avg: {name: accuracy, scale: 100, mean_over: test}
"""


@pytest.fixture
def paper(tmp_path):
    """Return a function that writes a paper of the given numbers."""

    def make(*numbers):
        path = tmp_path / "toy.yaml"
        path.write_text(YAML)
        with path.with_suffix(".csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for number in numbers:
                row = dict.fromkeys(COLUMNS, "") | {
                    "table": "Table 1", "dataset": "Blobs", "model": "MLP", "method": "Plain", "metric": "acc",
                    "value": "80.0", "protocol": "epochs=3 lr=0.1", "regularizer": "none",
                }  # fmt: skip
                writer.writerow(row | number)
        return [read_paper(path)]

    return make


def scores(mean, spread=0.002, count=8):
    values = np.linspace(-1, 1, count)
    return dict(enumerate((mean + spread * values / values.std(ddof=1)).tolist()))


@pytest.mark.parametrize(
    ("mean", "spread", "verdict"),
    [
        (0.801, 0.002, "reproduced"),  # 80.1 ± 0.07 (standard error) and a margin of 0.5
        (0.804, 0.002, "off"),  # 80.4 ± 0.07: neither equal nor shown to be within 0.5
        (0.803, 0.001, "reproduced"),  # not equal, but shown to be within 0.5
        (0.810, 0.030, "within the interval"),
        (0.900, 0.010, "off"),
    ],
)
def test_verdicts(made_run, paper, mean, spread, verdict):
    folder = made_run({("toy/blobs", "none"): scores(mean, spread)})
    (entry,) = ledger(read_results(folder), known=paper({}))
    assert entry.measured.mean == pytest.approx(100 * mean)
    assert entry.difference == pytest.approx(100 * mean - 80)
    half = stats.t.ppf(0.975, 7) * 100 * spread / math.sqrt(8)
    assert entry.interval.low == pytest.approx(entry.difference - half)
    assert entry.interval.high == pytest.approx(entry.difference + half)
    half = stats.t.ppf(0.95, 7) * 100 * spread / math.sqrt(8)
    within = abs(entry.difference) + half < 0.5
    assert (verdict == "reproduced") == within
    assert entry.verdict == verdict
    assert entry.differs == ()


def test_the_papers_spread_makes_the_interval_welchs(made_run, paper):
    ours = scores(0.81, 0.01)
    theirs = scores(0.80, 0.02, count=5)
    known = paper({"std": "2.0", "protocol": "epochs=3 runs=5"})
    (entry,) = ledger(read_results(made_run({("toy/blobs", "none"): ours})), known=known)
    first, second = (100 * np.array(list(values.values())) for values in (ours, theirs))
    want = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert (entry.interval.low, entry.interval.high) == pytest.approx((want.low, want.high))


@pytest.mark.parametrize(
    ("number", "differs"),
    [
        ({"protocol": "epochs=200"}, "epochs: 200 printed, 3 here"),
        ({"protocol": "epochs=3 lr=0.2"}, "lr: 0.2 printed, 0.1 here"),
        ({"protocol": "epochs=3 labels=250"}, "labels: 250 printed, not a setting here"),
        ({"protocol": "epochs=3 selection=best_val"}, "selection: best_val printed, last here"),
        ({"protocol": "lr=0.1"}, "epochs: not printed"),
        ({"model": "unspecified"}, "model: unspecified in the paper"),
    ],
)
def test_what_differs_is_said_and_makes_numbers_incomparable(made_run, paper, number, differs):
    folder = made_run({("toy/blobs", "none"): scores(0.8)})
    (entry,) = ledger(read_results(folder), known=paper(number))
    assert entry.differs == (differs,)
    assert entry.verdict == "not comparable"
    assert entry.difference == pytest.approx(0)


def test_data_models_and_settings_that_differ(made_run, paper):
    def described(dataset="made", model="mlp", p=0.1):
        return {
            "dataset": {"name": dataset, "version": 1},
            "model": {"name": model, "version": 1, "settings": {}},
            "regularizer": [{"name": "drop", "version": 1, "settings": {"p": p, "where": ["a", "b"]}}],
        }

    known = paper({"regularizer": "drop(p=0.1, where=[a, b])"})

    def entries(name, **changes):
        folder = made_run({("toy/blobs", "drop"): scores(0.8)}, name, description=described(**changes))
        return ledger(read_results(folder), known=known)

    assert [e.verdict for e in entries("same")] == ["reproduced"]
    assert [e.differs for e in entries("part", dataset="made-subset")] == [("data: made-subset for Blobs",)]
    assert [e.differs for e in entries("other", p=0.2)] == [("drop's p: 0.1 printed, 0.2 here",)]
    assert [e.differs for e in entries("net", model="cnn")] == [("model: mlp printed, mlp here",)]
    assert entries("elsewhere", dataset="digits") == ()


@pytest.mark.parametrize("wide", [False, True])
def test_a_method_may_have_a_model_of_its_own(made_run, paper, wide):
    description = {
        "dataset": {"name": "made", "version": 1},
        "model": {"name": "mlp", "version": 1, "settings": {"wide": wide}},
        "regularizer": [{"name": "none", "version": 1, "settings": {}}],
    }
    folder = made_run({("toy/blobs", "none"): scores(0.8)}, description=description)
    found = {
        entry.printed.method: entry.differs
        for entry in ledger(read_results(folder), known=paper({}, {"method": "Tricks"}))
    }
    assert found["Plain"] == ()
    assert found.get("Tricks") == (() if wide else None)


def test_variants_of_a_method_meet_the_numbers_that_name_them(made_run, paper):
    """An ablation beside the method: the plain row is met by the plain method alone."""
    known = paper(
        {"method": "Drop", "regularizer": "drop(p=0.1)"},
        {"method": "Drop, linear", "regularizer": "drop(p=0.1, schedule=linear)"},
    )
    plans, folders = [], []
    for text, schedule in (
        ("drop", "cosine"),
        ("drop(schedule=linear)", "linear"),
        ("drop(p=0.3)", "cosine"),
    ):
        p = 0.3 if "0.3" in text else 0.1
        described = {
            "regularizer": [{"name": "drop", "version": 1, "settings": {"p": p, "schedule": schedule}}]
        }
        name = f"run{len(folders)}"
        folders.append(made_run({("toy/blobs", text): scores(0.8)}, name, description=described))
        plans.append(json.loads((folders[-1] / "plan.json").read_text()))
    for plan, folder in zip(plans[1:], folders[1:], strict=True):
        plans[0]["cells"] += plan["cells"]
        for trial in (folder / "trials").iterdir():
            trial.rename(folders[0] / "trials" / trial.name)
    (folders[0] / "plan.json").write_text(json.dumps(plans[0]))
    entries = ledger(read_results(folders[0]), known=known)
    assert [(e.printed.method, e.regularizer, e.verdict) for e in entries] == [
        ("Drop", "drop", "reproduced"),
        ("Drop, linear", "drop(schedule=linear)", "reproduced"),
    ]


def test_one_seed_has_no_verdict_and_other_metrics_no_entry(made_run, paper):
    one = read_results(made_run({("toy/blobs", "none"): {0: 0.8}}, "one"))
    (entry,) = ledger(one, known=paper({}))
    assert (entry.verdict, entry.differs) == ("not comparable", ("seeds: one, which has no interval",))
    assert ledger(one, known=paper({"metric": "gpu_hours"})) == ()
    assert ledger(one, known=paper({"regularizer": ""})) == ()
    (entry,) = ledger(one, known=paper({"metric": "error", "value": "20"}))
    assert entry.difference == pytest.approx(0)


def test_evaluations_are_met_by_name_and_their_settings_differ(made_run, paper):
    folder = made_run({("toy/blobs", "none"): scores(0.8)}, selection="oracle")
    plan = json.loads((folder / "plan.json").read_text())
    for cell in plan["cells"]:
        cell["evaluations"] = ["attack(samples=9)"]
        at = folder / "trials" / cell["folder"] / "evaluations"
        at.mkdir()
        found = {"name": "attack(samples=9)", "status": "done", "metrics": {"left": 0.4 + cell["seed"] / 100}}
        (at / "attack.json").write_text(json.dumps(found | {"pictures": []}))
    (folder / "plan.json").write_text(json.dumps(plan))
    number = {"metric": "attacked", "value": "43.5", "protocol": "epochs=3 selection=last"}
    (entry,) = ledger(read_results(folder), known=paper(number))
    assert entry.difference == pytest.approx(0)
    assert entry.differs == ("evaluation: attack printed, attack(samples=9) here",)


def test_averages_are_over_all_tasks_seed_by_seed(made_run, paper):
    numbers = [
        {"metric": m, "value": v} for m, v in (("acc_here", "80"), ("acc_there", "60"), ("acc_avg", "70"))
    ]
    folders = {}
    for place, mean in (("here", 0.8), ("there", 0.6)):
        task = {"task": {"name": "toy/shifted", "version": 1, "settings": {"test": place}}}
        by_seed = scores(mean) if place == "here" else {k: v for k, v in scores(mean).items() if k < 5}
        folders[place] = made_run({(f"toy/shifted(test={place})", "none"): by_seed}, place, description=task)
    known = paper(*numbers)
    (alone,) = ledger(read_results(folders["here"]), known=known)
    assert alone.printed.metric == "acc_here"
    plans = [json.loads((folder / "plan.json").read_text()) for folder in folders.values()]
    plans[0]["cells"] += plans[1]["cells"]
    (folders["here"] / "plan.json").write_text(json.dumps(plans[0]))
    for trial in (folders["there"] / "trials").iterdir():
        trial.rename(folders["here"] / "trials" / trial.name)
    entries = {entry.printed.metric: entry for entry in ledger(read_results(folders["here"]), known=known)}
    assert set(entries) == {"acc_here", "acc_there", "acc_avg"}
    both = [50 * (scores(0.8)[seed] + scores(0.6)[seed]) for seed in range(5)]
    assert entries["acc_avg"].measured.n == 5
    assert entries["acc_avg"].measured.mean == pytest.approx(np.mean(both))
    assert entries["acc_avg"].task == "toy/shifted, mean of 2"


def test_the_command_line(made_run, paper, monkeypatch, capsys):
    known = paper({"misprint": "80.5 is meant"})
    monkeypatch.setattr("regathlon.ledger.papers", lambda: known)
    folder = made_run({("toy/blobs", "none"): scores(0.8)})
    assert main(["compare", str(folder), "--paper"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Toy, Table 1: Blobs, MLP" in said
    assert "reproduced" in said
    assert "misprint: 80.5 is meant" in said
    assert "selection: last" in said
    assert main(["compare", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert found["ledger"][0]["verdict"] == "reproduced"
    monkeypatch.setattr("regathlon.ledger.papers", list)
    assert main(["compare", str(folder), "--paper"]) == 0
    assert "Nothing in this run" in capsys.readouterr().out


def test_damaged_papers_are_one_message(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(YAML)
    with pytest.raises(UserError, match="toy"):
        read_paper(path)
    path.with_suffix(".csv").write_text(",".join(COLUMNS) + "\nTable 1,,Blobs,MLP,Plain,acc,many,,,none,,\n")
    with pytest.raises(UserError, match="could not convert"):
        read_paper(path)


# ---- what is installed ----


def test_all_four_papers_are_there():
    assert {paper.name: len(paper.numbers) for paper in papers()} == {
        "DropGraph": 153, "GradAug": 308, "GSNR": 185, "RelDrop": 8,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["DropGraph", "GradAug", "GSNR", "RelDrop"])
def test_printed_numbers_are_well_formed(name):
    """Every method that is ours exists, every name of the mapping is printed, and no row stands twice."""
    (paper,) = (paper for paper in papers() if paper.name == name)
    seen = set()
    for number in paper.numbers:
        assert math.isfinite(number.value)
        assert number.std is None or number.std >= 0
        # GradAug's Table 6 prints numbers of others and its own, Table 2 two budgets
        row = (number.table, number.dataset, number.model, number.method, number.metric, number.note,
               tuple(number.protocol.items()))  # fmt: skip
        assert row not in seen
        seen.add(row)
        assert number.protocol.get("selection", "last") in ("last", "best_val", "oracle")
        if number.regularizer:
            parse(number.regularizer, kind="regularizer")
    assert set(paper.datasets) <= {number.dataset for number in paper.numbers}
    named = {(number.model, f"{number.model}@{number.method}") for number in paper.numbers}
    assert set(paper.models) <= {name for names in named for name in names}
    assert {name.partition("@")[0] for name in paper.metrics} <= {number.metric for number in paper.numbers}
    for model in paper.models.values():
        parse_one(model, kind="model")


def test_methods_of_the_papers_are_written_as_their_declarations_want():
    known, _ = plugins.load_all("regularizer")
    for paper in papers():
        assert paper.card in known
        for number in paper.numbers:
            for call in parse(number.regularizer, kind="regularizer") if number.regularizer else ():
                if call.name in known:
                    fields = known[call.name].__dataclass_fields__
                    assert set(call.arguments) <= set(fields), (paper.name, number.table, number.method)


def test_printed_averages_are_those_of_their_cells():
    """Facts about the papers, to one unit in the last digit printed: a number that was mistyped shows."""
    for name, average_of, part in (("GSNR", "acc_target_Avg", "acc_target_"), ("GradAug", "mCE", "CE_")):
        (paper,) = (paper for paper in papers() if paper.name == name)
        rows = {}
        for number in paper.numbers:
            if number.metric.startswith(part) or number.metric == average_of:
                rows.setdefault((number.table, number.model, number.method), []).append(number)
        assert rows
        for row in rows.values():
            (average,) = (number for number in row if number.metric == average_of)
            cells = [number.value for number in row if number is not average]
            unit = 10 ** -len(average.printed.partition(".")[2])
            assert abs(np.mean(cells) - average.value) < unit + 1e-9, row[0].method
