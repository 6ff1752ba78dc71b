"""What a suite will cost, and the balanced part of it that fits in a time."""

import itertools
import json
import random

import pytest

from regathlon.cli import main
from regathlon.pricing import Price, PriceList, fit_within, part_of_suite, read_duration, total
from regathlon.results import read_results
from regathlon.suite_files import load_suite
from regathlon_core.errors import UserError

TASK = "toy/blobs"


def change(folder, part, **changes):
    for path in folder.glob(f"trials/*{part}*/result.json"):
        result = json.loads(path.read_text())
        for key, value in changes.items():
            result[key] = result[key] | value if isinstance(value, dict) and key in result else value
        path.write_text(json.dumps(result))


def cell_of(folder, regularizer, **recipe):
    cell = next(o.cell for o in read_results(folder).outcomes if o.cell["regularizer"] == regularizer)
    changed = json.loads(json.dumps(cell))
    changed["description"]["recipe"] |= recipe
    return changed


@pytest.fixture
def measured(made_run):
    """A run with 2 s of starting, steps of 0.5 s and 1e6 operations, 10 in an epoch, evaluations of 0.25 s."""
    folder = made_run({(TASK, "none"): {0: 0.8, 1: 0.8}, (TASK, "slow"): {0: 0.8, 1: "failed"}})
    epochs = [{"epoch": epoch, "step": 10 * epoch, "test": {"accuracy": 0.8}} for epoch in (1, 2)]
    cost = {
        "train_seconds": 10.0,
        "step_seconds": 0.5,
        "peak_memory_mb": 7.0,
        "train_flops": 2e7,
        "steps": 20,
    }
    common = {"history": epochs, "cost": cost, "wall_seconds": 12.5}
    common["pace"] = {"steps_per_epoch": 10, "evaluation_seconds": 0.25}
    change(folder, "none", **common)
    change(folder, "slow.s0", **common | {"cost": cost | {"step_seconds": 1.5, "train_flops": 6e7}})
    return folder


@pytest.mark.parametrize(
    ("recipe", "seconds", "flops"),
    [
        ({"budget": {"epochs": 6, "steps": None}}, 2 + 60 * 0.5 + 6 * 0.25, 60e6),
        ({"budget": {"epochs": 6}, "eval_every": 4}, 2 + 60 * 0.5 + 2 * 0.25, 60e6),
        ({"budget": {"steps": 35}}, 2 + 35 * 0.5 + 4 * 0.25, 35e6),
        ({"budget": {"seconds": 100.0}}, 2 + 100 + 20 * 0.25, 200e6),
        ({"budget": {"flops": 5e7}}, 2 + 50 * 0.5 + 5 * 0.25, 5e7),
    ],
)
def test_a_price_is_start_steps_and_evaluations(measured, recipe, seconds, flops):
    prices = PriceList()
    prices.learn_run(measured)
    price = prices.price(cell_of(measured, "none", **recipe))
    assert price.seconds == pytest.approx(seconds)
    assert price.flops == pytest.approx(flops)
    assert price.memory_mb == 7.0
    assert 0 < price.disk_mb < 0.01
    assert price.source == "measured"
    assert prices.trials == 3


def test_what_was_not_measured_is_priced_by_what_it_costs_elsewhere(measured, made_run):
    prices = PriceList()
    unknown = cell_of(measured, "none", batch_size=7)
    assert prices.price(unknown) == Price()
    prices.learn_run(measured)
    assert prices.price(unknown).source == "unknown"
    other = made_run(
        {(TASK, "none"): {0: 0.8}}, "other", description={"model": {"name": "big", "settings": {}}}
    )
    change(other, "none", cost={"step_seconds": 4.0}, pace={"steps_per_epoch": 10, "evaluation_seconds": 0.0})
    prices.learn_run(other)
    slow = cell_of(measured, "slow", budget={"steps": 10})
    slow["description"]["model"] = {"name": "big", "settings": {}}
    price = prices.price(slow)
    assert price.source == "alike"
    start = 4.0 - (2.0 + len("none"))  # wall minus training, which is below 0 here
    assert price.seconds == pytest.approx(max(0.0, start) + 10 * 4.0 * 3)


def test_totals_share_the_cores_and_wait_for_the_longest():
    trials = [Price(10.0, 1e9, 5.0, 1.0), Price(2.0, 1e9, 50.0, 1.0), Price(2.0, None, None, 1.0)]
    assert total(trials, 1).seconds == 14
    assert total(trials, 2).seconds == 10
    assert total(trials, 2).memory_mb == 55
    assert total(trials, 1).flops is None
    assert total([*trials, Price()], 1).seconds is None


@pytest.mark.parametrize("salt", range(20))
def test_parts_are_balanced_fit_and_cannot_be_larger(salt):
    generator = random.Random(salt)
    tables = [(f"t{t}", "m") for t in range(generator.randint(1, 4))]
    methods = [f"r{r}" for r in range(generator.randint(1, 4))]
    seeds = list(range(generator.randint(1, 5)))
    price = {key: generator.uniform(0.5, 4) for key in itertools.product(tables, methods)}
    cells = [
        {"task": t, "model": m, "regularizer": r, "seed": s}
        for s in seeds
        for t, m in tables
        for r in methods
    ]
    seconds = [price[(c["task"], c["model"]), c["regularizer"]] for c in cells]
    for position in generator.sample(range(len(cells)), len(cells) // 4):
        seconds[position] = 0.0  # done
    jobs, limit = generator.randint(1, 3), generator.uniform(1, sum(seconds) + 1)
    part = fit_within(cells, seconds, limit, jobs)
    assert part.seconds <= limit
    of = {}
    for position in part.chosen:
        cell = cells[position]
        of.setdefault((cell["task"], cell["model"]), {}).setdefault(cell["regularizer"], set()).add(
            cell["seed"]
        )
    for table in tables:
        found = of.get(table, {})
        want = {*part.seeds, *([part.extra] if table in part.tables else [])}
        assert all(found.get(method, set()) == want for method in methods)
    rest = [position for position in range(len(cells)) if position not in part.chosen]
    for table in tables:  # no whole table of the next seed would have fitted as well
        more = [
            p
            for p in rest
            if (cells[p]["task"], cells[p]["model"]) == table and cells[p]["seed"] == part.extra
        ]
        if more:
            left = [seconds[p] for p in (*part.chosen, *more)]
            assert max(sum(left) / jobs, max(left)) > limit


def test_a_part_is_a_suite_of_exactly_its_trials(suite_file):
    text = "tasks: [toy/blobs, toy/shifted]\nregularizers: [none, noise]\nseeds: [3, 5, 7]\n"
    text += "exclude: [{task: toy/blobs, regularizer: noise}]\n"
    from regathlon.plan import make_plan

    suite = load_suite(str(suite_file(text)), [])
    cells = [trial.record() for trial in make_plan(suite).trials]
    part = fit_within(cells, [1.0] * len(cells), 8.5, 1)
    assert part.seeds == (3,)
    assert part.extra == 5
    assert part.tables == ((TASK, "mlp"), ("toy/shifted(test=here)", "mlp"))
    from regathlon import yaml_text

    smaller = suite_file(yaml_text.write(part_of_suite(suite.raw, part, cells)), "part")
    ids = {trial.record()["id"] for trial in make_plan(load_suite(str(smaller), [])).trials}
    assert ids == {cells[position]["id"] for position in part.chosen}


@pytest.mark.parametrize("text", ["8", "h", "8 hours", "", "1h-3m", "-8h"])
def test_times_that_cannot_be_read_are_said(text, suite_file, capsys):
    with pytest.raises(UserError, match="is no time"):
        read_duration(text)
    assert main(["plan", str(suite_file("tasks: [toy/blobs]\nregularizers: [none]\n")), "--within", "8"]) == 3
    assert "--within" in capsys.readouterr().err


def test_the_command_line_prices_probes_and_picks(suite_file, tmp_path, capsys):
    suite = suite_file("tasks: [toy/blobs]\nregularizers: [none, noise, graph_only]\nseeds: 2\n")
    out = tmp_path / "runs" / "toy"
    common = ["plan", str(suite), "--out", str(out), "--jobs", "1"]
    assert main(common) == 0
    text = capsys.readouterr().out
    assert "No trial of toy/blobs was measured yet" in text
    assert "graph_only needs training samples" in text
    assert main([*common, "--within", "8h"]) == 3
    assert "Give --probe" in capsys.readouterr().err
    assert main([*common, "--write", "part.yaml"]) == 3
    assert "--within" in capsys.readouterr().err
    part = tmp_path / "part.yaml"
    assert main([*common, "--probe", "--within", "8h", "--write", str(part)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Within 8 h 00 min: 4 of 4 trials, seeds 0, 1 of everything" in text
    assert not out.exists()  # a probe leaves nothing behind
    assert main(["run", str(part), "--out", str(tmp_path / "runs" / "part"), "--set", "seeds=1"]) == 0
    capsys.readouterr()
    assert main([*common, "--json"]) == 0  # from the run beside it
    found = json.loads(capsys.readouterr().out)
    assert {price["source"] for price in found["prices"].values()} == {"measured"}
    assert found["expected_seconds"] == pytest.approx(
        sum(price["seconds"] for price in found["prices"].values())
    )
    assert found["to_run"] == 4
