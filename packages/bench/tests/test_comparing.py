"""Two runs beside each other, and made one."""

import json

import pytest

from regathlon.cli import main
from regathlon.comparison import compare_runs
from regathlon.merging import merge_runs
from regathlon.results import read_results
from regathlon_core.errors import UserError
from regathlon_core.statistics import holm, paired_test

TASK = "toy/blobs"
BASE = {seed: 0.8 + 0.001 * (seed % 5) for seed in range(10)}
BETTER = {seed: score + 0.05 + 0.001 * (seed % 3) for seed, score in BASE.items()}


def said(capsys):
    found = capsys.readouterr()
    return " ".join((found.out + found.err).split())


def test_rows_are_tested_by_seed_and_corrected_together(made_run):
    first = made_run({(TASK, "none"): BASE, (TASK, "cutmix"): BASE, (TASK, "old"): BASE}, "first")
    changed = {"recipe": {"lr": 0.2, "budget": {"epochs": 3, "steps": None}}}
    second = made_run(
        {(TASK, "none"): BETTER, (TASK, "cutmix"): {0: 0.7, 1: 0.9}, (TASK, "new"): BASE},
        "second",
        description=changed,
    )
    found = compare_runs(read_results(first), read_results(second))
    none, cutmix = found.rows
    assert none.test == paired_test(BETTER, BASE)
    assert none.test.difference > 0
    p = {"none": none.test.p_value, "cutmix": paired_test({0: 0.7, 1: 0.9}, BASE).p_value}
    assert (none.adjusted_p, cutmix.adjusted_p) == tuple(holm(p).values())
    assert cutmix.test.n == 2
    assert none.settings == (("recipe.lr", 0.1, 0.2),)
    assert found.only_first == ((TASK, "mlp", "old"),)
    assert found.only_second == ((TASK, "mlp", "new"),)
    assert none.same == none.changed == ()


def test_the_same_trials_must_give_the_same_numbers(made_run, capsys):
    first = made_run({(TASK, "none"): BASE}, "first")
    second = made_run(
        {(TASK, "none"): BASE | {3: 0.5}}, "second", environment={"torch": "2.14.0", "device": "cpu"}
    )
    (row,) = compare_runs(read_results(first), read_results(second)).rows
    assert row.changed == (3,)
    assert len(row.same) == 9
    assert row.settings == ()
    assert main(["compare", str(first), str(second)]) == 0
    text = said(capsys)
    assert "9 gave the same numbers and 1 did not" in text
    assert "version torch: 2.15.0 | 2.14.0" in text
    assert main(["compare", str(first), str(second), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert found["rows"][0]["changed"] == [3]
    assert main(["compare", str(first), str(second), "--paper"]) == 3
    assert "not with both" in said(capsys)


def test_runs_of_two_machines_become_one(made_run, tmp_path, capsys):
    """One machine has seeds 0 to 4 and no data for cutmix; the other has seeds 3 to 9 and stopped early."""
    skipped = dict.fromkeys(range(5), "skipped")
    first = made_run({(TASK, "none"): {s: BASE[s] for s in range(5)}, (TASK, "cutmix"): skipped}, "first")
    others = {seed: BASE[seed] for seed in range(3, 9)} | {9: "planned"}
    second = made_run({(TASK, "none"): others, (TASK, "cutmix"): {s: BETTER[s] for s in range(10)}}, "second")
    for folder, seeds in ((first, "5"), (second, "[3, 4, 5, 6, 7, 8, 9]")):
        (folder / "suite.yaml").write_text(
            f"tasks: [toy/blobs]\nregularizers: [none, cutmix]\nseeds: {seeds}\n"
        )
    assert main(["merge", str(tmp_path / "whole"), str(first), str(second)]) == 0
    whole = read_results(tmp_path / "whole")
    scores = {
        name: {o.cell["seed"]: o.score("last") for o in whole.outcomes if o.cell["regularizer"] == name}
        for name in ("none", "cutmix")
    }
    assert scores == {"none": BASE | {9: None}, "cutmix": BETTER}
    assert whole.counts() == {"done": 19, "planned": 1}
    assert "seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]" in (tmp_path / "whole" / "suite.yaml").read_text()
    assert "19 trials of 2 runs" in said(capsys)


def test_contradictions_are_reported_and_the_first_is_kept(made_run, tmp_path, capsys):
    first = made_run({(TASK, "none"): BASE}, "first")
    second = made_run(
        {(TASK, "none"): BASE | {3: 0.5}}, "second", environment={"torch": "2.14.0", "device": "H100"}
    )
    assert main(["merge", str(tmp_path / "whole"), str(first), str(second)]) == 2
    text = said(capsys)
    assert (
        f"seed 3: accuracy {BASE[3]} in {first} (torch 2.15.0, some) and 0.5 in {second} (torch 2.14.0, H100)"
        in text
    )
    assert text.count("conflict:") == 1
    whole = read_results(tmp_path / "whole")
    assert {o.cell["seed"]: o.score("last") for o in whole.outcomes} == BASE


def test_a_failure_gives_way_to_a_result_and_damage_to_both(made_run, tmp_path):
    first = made_run({(TASK, "none"): {0: "failed", 1: 0.8, 2: 0.8}}, "first")
    second = made_run({(TASK, "none"): {0: 0.7, 1: "failed", 2: 0.8}}, "second")
    (damaged,) = first.glob("trials/*s2*/result.json")
    damaged.write_text("{")
    merged = merge_runs(tmp_path / "whole", [first, second])
    assert merged.conflicts == []
    whole = read_results(tmp_path / "whole")
    assert {o.cell["seed"]: o.score("last") for o in whole.outcomes} == {0: 0.7, 1: 0.8, 2: 0.8}


def test_what_cannot_be_merged_is_said(made_run, tmp_path, capsys):
    first = made_run({(TASK, "none"): {0: 0.8}}, "first")
    second = made_run({(TASK, "none"): {1: 0.8}}, "second")
    with pytest.raises(UserError, match="holds something already"):
        merge_runs(first, [first, second])
    with pytest.raises(UserError, match="no run directory"):
        merge_runs(tmp_path / "whole", [first, tmp_path])
    (first / "suite.yaml").write_text("tasks: [toy/blobs]\nregularizers: [none]\nseeds: 1\n")
    (second / "suite.yaml").write_text(
        "tasks: [toy/blobs]\nregularizers: [none]\nseeds: 2\nselection: oracle\n"
    )
    assert main(["merge", str(tmp_path / "whole"), str(first), str(second)]) == 0
    assert "The suites differ in seeds, selection" in said(capsys)


def test_a_merged_run_goes_on_where_its_parts_stopped(suite_file, tmp_path, capsys):
    suite = suite_file("tasks: [toy/blobs]\nregularizers: [none]\n")
    for name, seeds in (("first", "[0]"), ("second", "[1]")):
        assert main(["run", str(suite), "--out", str(tmp_path / name), "--set", f"seeds={seeds}"]) == 0
    whole = tmp_path / "whole"
    assert main(["merge", str(whole), str(tmp_path / "first"), str(tmp_path / "second")]) == 0
    capsys.readouterr()
    assert main(["run", str(whole)]) == 0
    assert "Nothing to do: all 2 trials" in said(capsys)
