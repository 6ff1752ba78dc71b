"""The command line: what it imports, how it refuses, what it lists."""

import json
import subprocess
import sys
import time

import pytest

SUITE = "tasks: [toy/blobs]\nregularizers: [none, noise]\nseeds: 2\n"


def imported_by(*arguments: str) -> tuple[set[str], float]:
    """Return the modules that a command imports in a fresh process, and the seconds it took."""
    code = (
        "import json, sys\nfrom regathlon.cli import main\n"
        f"code = main({list(arguments)!r})\n"
        "print(json.dumps([code, *sorted(sys.modules)]), file=sys.stderr)"
    )
    started = time.perf_counter()
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    seconds = time.perf_counter() - started
    assert said.splitlines(), repr(said)
    code, *modules = json.loads(said.splitlines()[-1])
    assert code == 0, said
    return set(modules), seconds


def test_help_imports_next_to_nothing():
    modules, _ = imported_by("--help")
    assert not modules & {"torch", "numpy", "rich", "pydantic", "yaml"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "blobs"),
        ("list", "tasks"),
        ("list", "models"),
        ("list", "regularizers", "--json"),
        ("list", "datasets"),
        ("list", "suites"),
        ("list", "executors"),
        ("describe", "dropblock"),
        ("describe", "noise"),
        ("describe", "toy/blobs"),
        ("data", "list"),
        ("data", "path"),
    ],
    ids=" ".join,
)
def test_nothing_but_running_imports_torch(arguments):
    modules, _ = imported_by(*arguments)
    assert "torch" not in modules


def test_reading_a_run_imports_neither_torch_nor_its_plugins(run, suite_file, tmp_path):
    suite, out = suite_file(SUITE), tmp_path / "out"
    assert run("run", suite, "--out", out)[0] == 0
    for command in (("report",), ("status",), ("export", "--format", "json")):
        modules, _ = imported_by(command[0], str(out), *command[1:])
        assert not modules & {"torch", "toyplug"}
    modules, _ = imported_by("run", str(suite), "--out", str(out))
    assert "torch" not in modules


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("run", "quik"),
            "There is no suite 'quik'. Did you mean 'quick'? (All of them: regathlon list suites)",
        ),
        (
            ("run", "blobs", "--set", "regularizers=[nois]"),
            "--set regularizers: There is no regularizer 'nois'.",
        ),
        (("run", "blobs", "--jobs", "0"), "--jobs must be at least 1, not 0."),
        (("run", "blobs", "--jobs", "many"), "Invalid value for '--jobs'"),
        (("run", "blobs", "--executor", "locl"), "There is no executor 'locl'. Did you mean 'local'?"),
        (("run", "blobs", "--joobs", "1"), "No such option: --joobs"),
        (("rnu",), "No such command 'rnu'. Did you mean 'run'?"),
        (
            ("report", "nowhere"),
            "nowhere does not exist. A run is made by: regathlon run SUITE --out nowhere",
        ),
        (("status", "."), ". is no run directory."),
        (("list", "regularizer"), "There is no list of 'regularizer'. Did you mean 'regularizers'?"),
        (("describe", "dropblok"), "Did you mean 'dropblock'"),
        (("describe", "toy/blob"), "Did you mean 'toy/blobs'"),
        (("data", "verify", "toyfiles"), "There is no data set 'toyfiles'. Did you mean 'toy-files'?"),
        (("plan", "blobs", "--set", "tasks=[toy/blops]"), "--set tasks: There is no task 'toy/blops'."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_wrong_is_one_message(run, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert code == 3
    assert out == ""
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_format_that_does_not_exist(run, suite_file, tmp_path):
    assert run("run", suite_file(SUITE), "--out", tmp_path / "out", "--set", "seeds=1")[0] == 0
    code, _, err = run("export", tmp_path / "out", "--format", "cvs")
    assert code == 3
    assert "--format: There is no format 'cvs'. Did you mean 'csv'?" in err
    code, _, err = run("report", tmp_path / "out", "--selection", "best")
    assert code == 3
    assert "There is no selection 'best'. Did you mean 'best_val'?" in err


@pytest.mark.parametrize("place", ["/sys/regathlon", "a file"])
def test_an_out_folder_that_cannot_be_written(run, suite_file, tmp_path, place):
    (tmp_path / "a file").write_text("")
    code, _, err = run("run", suite_file(SUITE), "--out", tmp_path / place)
    assert code == 3
    assert err.startswith(f"regathlon: Cannot write to {tmp_path / place}")
    assert "Give a writable folder with --out." in err
    assert len(err.strip().splitlines()) == 1


def test_an_unexpected_error_is_one_line_with_the_place_of_its_details(run, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("regathlon.commands.listing.show_list", lambda *_, **__: 1 / 0)
    code, _, err = run("list", "tasks")
    assert code == 1
    assert "ZeroDivisionError: division by zero. Details: " in err
    assert "Traceback" in next(tmp_path.glob("regathlon-*.log")).read_text()


def test_plan_says_what_would_run_and_what_it_costs(run, suite_file, tmp_path):
    suite = suite_file(
        "tasks: [toy/blobs, toy/downloaded]\nregularizers: [none, graph_only]\nseeds: [3, 5]\n"
    )
    out = tmp_path / "out"
    code, text, _ = run("plan", suite, "--out", out)
    assert code == 0
    assert "toy: 2 trials, 0 done, 2 to run; 6 cells skipped." in text
    assert "not yet known" in text
    assert "toy/downloaded with none (2 cells): data set toy-files is not here" in text
    assert not out.exists()
    assert run("run", suite, "--out", out, "--set", "seeds=[3]")[0] == 0
    assert "2 trials, 1 done, 1 to run; 6 cells skipped. Time, " in run("plan", suite, "--out", out)[1]
    plan = json.loads(run("plan", suite, "--out", out, "--json")[1])
    assert (plan["done"], plan["to_run"], len(plan["cells"])) == (1, 1, 8)
    assert plan["expected_seconds"] > 0


@pytest.mark.parametrize(
    ("kind", "key", "name"),
    [
        ("tasks", "task", "toy/blobs"),
        ("models", "model", "mlp"),
        ("regularizers", "regularizer", "noise"),
        ("datasets", "dataset", "toy-files"),
        ("suites", "suite", "blobs"),
        ("executors", "executor", "local"),
    ],
)
def test_lists_show_what_plugins_bring(run, kind, key, name):
    code, out, err = run("list", kind, "--json")
    assert code == 0
    assert name in [row[key] for row in json.loads(out)]
    assert name in run("list", kind)[1]
    assert ("toy/broken" in err) == (kind == "tasks")


def test_descriptions_show_cards_and_settings(run):
    text = run("describe", "noise(scale=0.5)")[1]
    assert "Gaussian noise on the inputs." in text
    assert "* scale: float = 0.1" in text
    text = run("describe", "toy/blobs")[1]
    for part in ("Data set: blobs.", "* mlp: two layers", "lr=0.05", "a cross-entropy over classes"):
        assert part in text
    assert "# none" in run("describe", "none")[1]
    assert "Of the tasks: toy/blobs" in run("describe", "mlp")[1]
    assert "Licence: CC0-1.0" in run("describe", "toy-files")[1]
    assert "title: Blobs" in run("describe", "blobs")[1]


def test_doctor_names_broken_plugins(run):
    code, out, _ = run("doctor", "--json")
    found = json.loads(out)
    assert code == 2
    assert any("toy/broken" in problem for problem in found["problems"])
    assert found["torch"]["version"]
    assert "regathlon-core" in found["packages"]


def test_every_format_has_every_regularizer(run, suite_file, tmp_path):
    suite = suite_file("tasks: [toy/blobs]\nregularizers: [none, 'noise(scale=0.5)', graph_only]\nseeds: 2\n")
    assert run("run", suite, "--out", tmp_path / "out")[0] == 0
    for format_ in ("csv", "json", "markdown", "latex"):
        code, text, _ = run("export", tmp_path / "out", "--format", format_)
        assert code == 0
        for name in ("none", "noise(scale=0.5)", "graph"):
            assert name in text
        assert "skipped" in text
    board = json.loads(run("export", tmp_path / "out", "--format", "json")[1])["leaderboard"]
    (table,) = board
    rows = {row["regularizer"]: row for row in table["rows"]}
    assert rows["noise(scale=0.5)"]["gain"]["n"] == 2
    assert rows["none"]["costs"]["time_ratio"] == 1
    assert rows["graph_only"]["summary"]["mean"] is None
