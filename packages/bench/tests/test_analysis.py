"""What a run shows: claims, costs, ranks, and that what is missing never makes a wrong mean."""

import io
import itertools
import json
import math
import random
import statistics

import pytest
from rich.console import Console

from regathlon.analysis import analyze
from regathlon.cli import main
from regathlon.export import FORMATS
from regathlon.report import print_report
from regathlon.results import read_results
from regathlon_core.errors import UserError
from regathlon_core.statistics import compare_methods, effect_size, holm, paired_test

SEEDS = range(8)
TASK = "toy/blobs"


def drawn(mean, seeds=SEEDS, spread=0.01, salt=0):
    generator = random.Random(f"{mean} {salt}")
    return {seed: mean + generator.gauss(0, spread) for seed in seeds}


def read(folder, **options):
    return analyze(read_results(folder), **options)


def rows(table):
    return {row.name: row for row in table.rows}


def test_a_table_is_the_statistics_of_its_scores(made_run):
    scores = {"none": drawn(0.8), "cutmix": drawn(0.9), "mixup": drawn(0.81)}
    analysis = read(made_run({(TASK, name): by_seed for name, by_seed in scores.items()}))
    (table,) = analysis.tables
    want = compare_methods(scores, baseline="none")
    assert [row.name for row in table.rows] == list(want.summaries)
    assert table.selection == analysis.selection == "last"
    assert not table.refusals
    for row in table.rows:
        assert row.summary.mean == pytest.approx(statistics.fmean(scores[row.name].values()))
        assert row.summary.std == pytest.approx(statistics.stdev(scores[row.name].values()))
        assert (row.name in want.bold) == row.bold
        assert row.budget == "3 epochs"
    assert table.rows[0].p_best is None
    p = holm({pair: paired_test(scores[pair[0]], scores[pair[1]]).p_value
              for pair in itertools.combinations(scores, 2)})  # fmt: skip
    assert rows(table)["cutmix"].gain.adjusted_p == pytest.approx(p["none", "cutmix"])
    assert rows(table)["none"].p_best == pytest.approx(p["none", "cutmix"])
    assert rows(table)["cutmix"].effect == effect_size(scores["cutmix"], scores["none"])
    assert rows(table)["none"].gain is None
    assert {row.name for row in table.rows if row.bold} == {"cutmix"}


def test_errors_are_better_when_lower(made_run):
    folder = made_run(
        {(TASK, "none"): drawn(0.2), (TASK, "good"): drawn(0.1)}, metric="error", lower_is_better=True
    )
    (table,) = read(folder).tables
    assert [row.name for row in table.rows] == ["good", "none"]
    assert rows(table)["good"].gain.gain > 0
    assert rows(table)["good"].bold
    assert not rows(table)["none"].bold


def test_more_seeds_for_a_given_difference(made_run):
    folder = made_run({(TASK, "none"): drawn(0.8), (TASK, "cutmix"): drawn(0.805)})
    (measured,), (small,), (large,) = (
        read(folder, difference=difference).tables for difference in (None, 0.001, 0.1)
    )
    more = [rows(table)["cutmix"].more_seeds for table in (small, measured, large)]
    assert more[0] > more[1] >= more[2] == 0


def test_seeds_that_are_missing_stop_claims_and_are_named(made_run):
    few = {**drawn(0.9), 6: "failed", 7: "planned"}
    analysis = read(made_run({(TASK, "none"): drawn(0.8), (TASK, "cutmix"): few}))
    (table,) = analysis.tables
    row = rows(table)["cutmix"]
    assert row.summary.n == 6
    assert row.summary.mean == pytest.approx(statistics.fmean(list(few.values())[:6]))
    assert not any(row.bold for row in table.rows)
    assert "numbers of seeds differ" in table.refusals[0]
    assert {(found.status, found.seeds) for found in row.missing} == {("failed", (6,)), ("planned", (7,))}
    assert row.gain.n == 6
    shared = [few[seed] - drawn(0.8)[seed] for seed in range(6)]
    assert row.gain.gain == pytest.approx(statistics.fmean(shared))
    assert any("1 of 16 trials is not done yet" in problem for problem in analysis.problems)
    assert any("1 trial failed" in problem for problem in analysis.problems)


def test_a_method_that_cannot_run_or_always_fails_stops_no_claim(made_run):
    scores = {
        (TASK, "none"): drawn(0.8),
        (TASK, "cutmix"): drawn(0.9),
        (TASK, "dg"): dict.fromkeys(SEEDS, "skipped"),
        (TASK, "boom"): dict.fromkeys(SEEDS, "failed"),
    }
    (table,) = read(made_run(scores)).tables
    assert not table.refusals
    assert rows(table)["cutmix"].bold
    assert [row.name for row in table.rows][:2] == ["cutmix", "none"]
    assert math.isnan(rows(table)["dg"].summary.mean)
    assert not rows(table)["boom"].bold


def test_a_method_that_has_yet_to_run_stops_claims(made_run):
    waiting = dict.fromkeys(SEEDS, "planned")
    (table,) = read(
        made_run({(TASK, "none"): drawn(0.8), (TASK, "a"): drawn(0.9), (TASK, "b"): waiting})
    ).tables
    assert "0 seeds (b)" in table.refusals[0]
    assert not any(row.bold for row in table.rows)


@pytest.mark.parametrize(
    "damage",
    [
        '{"format": 1, "sta',
        "[]",
        "null",
        '{"format": 7, "status": "done"}',
        '{"format": 1, "status": "done"}',
        '{"format": 1, "status": "done", "selections": {"last": []}, "history": [], "cost": {}, "environment": {}}',
        '{"format": 1, "status": "done", "selections": {"last": {"test": [0.5]}}, "history": [], "cost": {},'
        ' "environment": {}}',
        "another trial's",
    ],
)
def test_damaged_results_are_counted_as_missing_and_said(made_run, damage, capsys):
    good = drawn(0.9)
    folder = made_run({(TASK, "none"): drawn(0.8), (TASK, "cutmix"): good})
    files = sorted(folder.glob("trials/*cutmix*/result.json"))
    text = files[1].read_text() if damage.startswith("another") else damage
    files[0].write_text(text)
    lost = next(seed for seed in SEEDS if f".s{seed}." in str(files[0]))
    analysis = read(folder)
    row = rows(analysis.tables[0])["cutmix"]
    rest = [score for seed, score in good.items() if seed != lost]
    assert row.summary.mean == pytest.approx(statistics.fmean(rest))
    assert not row.bold
    assert any("1 result cannot be used" in problem for problem in analysis.problems)
    assert main(["report", str(folder)]) == 0
    assert "1 result cannot be used" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("value", ["0.9", True, None, "NaN", [0.9]])
def test_values_that_are_no_finite_numbers_are_missing(made_run, value):
    folder = made_run({(TASK, "none"): drawn(0.8), (TASK, "cutmix"): drawn(0.9)})
    (path,) = folder.glob("trials/*cutmix.s3*/result.json")
    result = json.loads(path.read_text())
    result["selections"]["last"]["test"]["accuracy"] = value
    result["cost"]["train_seconds"] = value
    path.write_text(json.dumps(result).replace('"NaN"', "NaN"))
    (table,) = read(folder).tables
    row = rows(table)["cutmix"]
    assert row.summary.n == 7
    assert row.missing[0].reason == "no finite accuracy on the test split"
    assert row.costs.train_seconds == 2.0 + len("cutmix")


@pytest.mark.parametrize("cells", [[{}], [None], 3, [{"status": "planned", "task": "a"}]])
def test_a_damaged_plan_is_one_message(made_run, cells):
    folder = made_run({(TASK, "none"): drawn(0.8)}, plan={"cells": cells})
    with pytest.raises(UserError, match="damaged"):
        read_results(folder)


def test_mixed_versions_and_machines_are_said(made_run):
    folder = made_run({(TASK, "none"): drawn(0.8), (TASK, "cutmix"): drawn(0.9)})
    (path,) = folder.glob("trials/*cutmix.s3*/result.json")
    result = json.loads(path.read_text())
    result["environment"] |= {"torch": "2.14.0", "device": "H100"}
    path.write_text(json.dumps(result))
    analysis = read(folder)
    said = " ".join(analysis.problems)
    assert "torch 2.15.0 (15 trials), 2.14.0 (1 trial)" in said
    assert "device cpu (15 trials), H100 (1 trial)" in said
    assert rows(analysis.tables[0])["cutmix"].costs.time_ratio is None
    assert rows(analysis.tables[0])["cutmix"].costs.flops_ratio == 1


def test_other_budgets_and_recipes_make_rows_of_their_own_without_claims(made_run):
    first = made_run({(TASK, "none"): drawn(0.8), (TASK, "cutmix"): drawn(0.9)})
    recipe = {"recipe": {"lr": 0.2, "budget": {"epochs": 9, "steps": None}}}
    second = made_run({(TASK, "cutmix"): drawn(0.95)}, "second", description=recipe)
    plans = [json.loads((folder / "plan.json").read_text()) for folder in (first, second)]
    plans[0]["cells"] += plans[1]["cells"]
    (first / "plan.json").write_text(json.dumps(plans[0]))
    for trial in (second / "trials").iterdir():
        trial.rename(first / "trials" / trial.name)
    (table,) = read(first).tables
    assert set(rows(table)) == {"none [budget.epochs=3, lr=0.1]", "cutmix [budget.epochs=3, lr=0.1]",
                                "cutmix [budget.epochs=9, lr=0.2]"}  # fmt: skip
    assert not any(row.bold for row in table.rows)
    assert any("budgets differ: 3 epochs" in refusal for refusal in table.refusals)
    assert any("tunings differ" in refusal for refusal in table.refusals)


def test_selections_are_read_and_named(made_run):
    folder = made_run({(TASK, "none"): drawn(0.8), (TASK, "cutmix"): drawn(0.9)})
    analysis = read(folder, selection="best_val")
    assert analysis.selection == analysis.tables[0].selection == "best_val"
    assert not any(row.scored for row in analysis.tables[0].rows)
    assert analysis.tables[0].rows[0].missing[0].reason == "there is no validation split"
    with pytest.raises(UserError, match="selection"):
        read(folder, selection="best")


def test_ranks_leave_out_what_is_not_everywhere(made_run):
    every, methods = ["toy/a", "toy/b", "toy/c"], ["none", "cutmix", "mixup"]
    scores = {(task, m): drawn(0.5 + 0.1 * i) for task in every for i, m in enumerate(methods)}
    scores["toy/c", "mixup"] = dict.fromkeys(SEEDS, "skipped")
    scores["toy/c", "extra"] = drawn(0.9)
    scores["toy/b", "none"] = {**drawn(0.5), 7: "planned"}
    ranking = read(made_run(scores)).ranking
    # cutmix and mixup share a and b, none and cutmix share a and c: as many scores; none has other seeds on b
    assert len(ranking.diagram.ranks.tasks) == 2
    methods = list(ranking.diagram.ranks.average)
    assert methods == ["mixup", "cutmix"] or methods == ["cutmix", "none"]
    assert "extra" in ranking.methods_left_out
    assert len(ranking.tables_left_out) == 1
    assert read(made_run({(TASK, "none"): drawn(0.8)}, "one")).ranking is None


def test_the_hint_and_costs_use_shared_seeds(made_run):
    scores = {(TASK, "none"): drawn(0.8), (TASK, "cutmix"): {seed: drawn(0.9)[seed] for seed in range(4)}}
    folder = made_run(scores)
    for path in folder.glob("trials/*none*/result.json"):
        result = json.loads(path.read_text())
        seed = int(path.parent.name.split(".s")[1].split(".")[0])
        result["cost"]["train_seconds"] = 2.0 if seed < 4 else 200.0
        path.write_text(json.dumps(result))
    assert rows(read(folder).tables[0])["cutmix"].costs.time_ratio == (2.0 + len("cutmix")) / 2.0


def test_every_format_names_the_selection_and_marks_the_best(made_run, capsys):
    folder = made_run({(TASK, "none"): drawn(0.8), (TASK, "cutmix"): drawn(0.9)})
    assert main(["report", str(folder)]) == 0
    report = capsys.readouterr().out
    assert "selection: last" in report
    assert "(8) *" in next(line for line in report.splitlines() if line.strip().startswith("cutmix"))
    assert "*" not in next(line for line in report.splitlines() if line.strip().startswith("none"))
    results = read_results(folder)
    texts = {name: to_text(results, analyze(results)) for name, to_text in FORMATS.items()}
    best = f"{statistics.fmean(drawn(0.9).values()):.4f}"
    assert texts["markdown"].count("**") == 2
    assert f"**{best} ± " in texts["markdown"]
    assert "Selection: `last`" in texts["markdown"]
    assert texts["latex"].count(r"\textbf") == 1
    assert rf"\textbf{{{best} $\pm$ " in texts["latex"]
    assert "selection: last" in texts["latex"]
    found = json.loads(texts["json"])
    assert found["schema"] == 1
    assert found["leaderboard"][0]["rows"][0]["bold"] is True
    assert found["leaderboard"][0]["selection"] == found["selection"] == "last"
    assert ",last,test,accuracy," in texts["csv"]


def test_names_of_all_kinds_are_text_in_every_format(made_run, capsys):
    name = 'noise(label="a | b & <i>#1</i> 50% _x_ [bold] \\\\ é漢\n")'
    folder = made_run({(TASK, "none"): drawn(0.8), (TASK, name): drawn(0.9)})
    results = read_results(folder)
    texts = {kind: to_text(results, analyze(results)) for kind, to_text in FORMATS.items()}
    table = [line for line in texts["markdown"].splitlines() if line.startswith("|")]
    assert len(table) == 4
    assert all(line.replace("\\|", "").count("|") == 7 for line in table)
    assert r"\& <i>\#1</i> 50\% \_x\_" in texts["latex"]
    assert json.loads(texts["json"])["leaderboard"][0]["rows"][0]["name"] == name
    assert main(["report", str(folder)]) == 0
    assert "[bold]" in capsys.readouterr().out


def test_a_thousand_trials_take_little_work(made_run):
    """The number of tests grows with pairs, not with trials: 10 tasks of 10 methods and 10 seeds."""
    scores = {
        (f"toy/t{t}", f"m{m}"): drawn(0.5 + 0.01 * m, range(10), salt=t) for t in range(10) for m in range(10)
    }
    analysis = read(made_run(scores))
    assert sum(len(table.pairs) for table in analysis.tables) == 10 * 45
    assert len(analysis.ranking.diagram.ranks.tasks) == 10


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_tables_fit_the_terminal_and_lose_the_least_important_first(made_run, width):
    name = "dropblock(p=0.2, block_size=3, schedule=linear)"
    folder = made_run({(TASK, "none"): drawn(0.8), (TASK, name): drawn(0.9)})
    console = Console(width=width, file=io.StringIO())
    print_report(read(folder), console)
    text = console.file.getvalue()
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    heading = next(line for line in text.splitlines() if "accuracy" in line)
    shown = [word for word in ("accuracy", "gain over none", "training time", "FLOPs") if word in heading]
    assert len(shown) >= {60: 1, 80: 2, 100: 3, 120: 3, 200: 4}[width]
    best = f"{statistics.fmean(drawn(0.9).values()):.4f}"
    assert best in text


def test_the_command_line_chooses_test_level_and_difference(made_run, capsys):
    folder = made_run({(TASK, "none"): drawn(0.8, range(4)), (TASK, "cutmix"): drawn(0.9, range(4))})
    assert main(["report", str(folder)]) == 0
    assert "no p-value of the permutation test can be below 0.12" in " ".join(capsys.readouterr().out.split())
    assert main(["report", str(folder), "--test", "t", "--difference", "0.5"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Student's t test paired by seed, Holm over 1 pair, alpha 0.05" in text
    assert "would show a gain of 0.5" in text
    assert main(["export", str(folder), "--format", "json", "--alpha", "0.2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["alpha"], found["test"]) == (0.2, "permutation")
    assert found["leaderboard"][0]["rows"][0]["bold"]
    for wrong in (("--alpha", "5"), ("--test", "u")):
        assert main(["report", str(folder), *wrong]) == 3
