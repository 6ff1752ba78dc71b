"""Running suites: results, resuming, isolation. The fork server is shared by the tests of this process."""

import csv
import ctypes
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from regathlon.executors import PRELOAD_LOG, PRELOAD_MODULES
from regathlon.export import COLUMNS
from regathlon.run import ONE_KEYSTROKE

SUITE = "tasks: [toy/blobs]\nregularizers: [none, noise, noise+mix]\nseeds: 2\n"


def rows(run, folder):
    code, out, _ = run("export", folder, "--format", "csv")
    assert code == 0
    return list(csv.DictReader(io.StringIO(out)))


def numbers(run, folder):
    """Return every metric of a run, as text, by trial, split and name."""
    return {(r["trial"], r["split"], r["metric"]): r["value"] for r in rows(run, folder) if r["metric"]}


def trial_folder(folder: Path, part: str) -> Path:
    (found,) = (path for path in (folder / "trials").iterdir() if part in path.name)
    return found


def test_a_suite_runs_and_running_it_again_does_nothing(run, suite_file, tmp_path):
    suite, out = suite_file(SUITE), tmp_path / "out"
    code, table, said = run("run", suite, "--out", out, "--jobs", 2)
    assert code == 0, said
    assert "[6/6]" in said
    assert "toy/blobs (mlp)" in table
    found = rows(run, out)
    assert tuple(found[0]) == COLUMNS
    assert len(found) == 6 * 2 * 2  # trials, val and test, two metrics
    assert {row["status"] for row in found} == {"done"}
    assert {row["epochs"] for row in found} == {"3"}
    assert all(float(row["train_seconds"]) > 0 and float(row["train_flops"]) > 0 for row in found)
    for folder in (out / "trials").iterdir():
        assert not (folder / "checkpoint.pt").exists()
        history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        result = json.loads((folder / "result.json").read_text())
        assert [record["epoch"] for record in history] == [1, 2, 3]
        assert result["history"] == history
        assert set(result["selections"]) == {"last", "best_val", "oracle"}
        assert result["environment"]["threads"] == 1
        assert result["environment"]["torch"]
    written = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/*")}
    code, table_again, said = run("run", suite, "--out", out)
    assert (code, table_again) == (0, table)
    assert "Nothing to do: all 6 trials of toy are done." in said
    assert {path: path.stat().st_mtime_ns for path in out.glob("trials/*/*")} == written


def test_numbers_depend_neither_on_jobs_nor_on_what_else_runs(run, suite_file, tmp_path):
    suite = suite_file(SUITE)
    assert run("run", suite, "--out", tmp_path / "one", "--jobs", 1)[0] == 0
    assert run("run", suite, "--out", tmp_path / "two", "--jobs", 2, "--set", "seeds=[1]")[0] == 0
    one, two = numbers(run, tmp_path / "one"), numbers(run, tmp_path / "two")
    assert len(two) == 12
    assert two.items() <= one.items()


def test_adding_a_seed_and_a_method_runs_only_the_new_cells(run, suite_file, tmp_path):
    out = tmp_path / "out"
    assert run("run", suite_file(SUITE), "--out", out)[0] == 0
    before = numbers(run, out)
    code, _, said = run("run", suite_file(SUITE + "title: More\n"), "--out", out, "--set", "seeds=3",
                        "--set", "regularizers=[none, noise, noise+mix, noise(scale=0.5)]")  # fmt: skip
    assert code == 0
    assert "6 trials to run" in said
    assert "Ran 6 trials" in said
    after = numbers(run, out)
    assert before.items() <= after.items()
    assert len(after) == 12 * 4
    assert len(numbers(run, out)) > len(before)


def test_a_run_directory_can_be_moved_read_and_run_again(run, suite_file, tmp_path):
    assert run("run", suite_file(SUITE), "--out", tmp_path / "out", "--set", "seeds=1")[0] == 0
    before = numbers(run, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "moved")
    assert numbers(run, tmp_path / "moved") == before
    code, _, said = run("run", tmp_path / "moved", "--set", "seeds=2")
    assert code == 0
    assert "Ran 3 trials" in said
    assert run("run", tmp_path / "moved")[0] == 0


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ("raise", "failed", "RuntimeError: the toy went wrong"),
        ("nan", "failed", "NonFiniteLoss: The loss became nan at step 5 of 18"),
        ("exit", "failed", "the trial ended its process itself (sys.exit(3))"),
        ("leave", "failed", "the process ended with exit code 0 and left no result; see log.txt"),
        ("segv", "failed", "crashed with a segmentation fault (SIGSEGV); the Python stack is in log.txt"),
        ("kill", "failed", "killed by the system (SIGKILL), most likely because memory ran out; it held "),
        ("memory", "oom", "out of memory: no room for 3 GB"),
    ],
)
def test_a_trial_that_goes_wrong_is_explained_and_alone(run, suite_file, tmp_path, how, status, reason):
    out = tmp_path / "out"
    suite = suite_file(f"tasks: [toy/blobs]\nregularizers: [boom(how={how}), none]\nseeds: 1\n")
    code, table, said = run("run", suite, "--out", out, "--jobs", 1)
    assert code == 2
    assert f"boom(how={how})" in said or how == "raise"
    assert reason in said
    assert reason in " ".join(table.split())
    by_regularizer = {row["regularizer"]: row for row in rows(run, out)}
    assert by_regularizer["none"]["status"] == "done"
    failed = next(row for name, row in by_regularizer.items() if name.startswith("boom"))
    assert failed["status"] == status
    assert (failed["metric"], failed["value"]) == ("", "")
    log = (trial_folder(out, "boom") / "log.txt").read_text()
    if how in ("raise", "nan", "exit", "memory"):
        assert "Traceback" in log
    if how == "segv":
        assert "implementation.py" in log  # faulthandler's stack
    code, _, said = run("run", suite, "--out", out, "--jobs", 1)
    assert code == 2
    assert "1 trials to run" in said or "1 trial to run" in said


def test_a_damaged_result_is_run_again(run, suite_file, tmp_path):
    suite, out = suite_file(SUITE), tmp_path / "out"
    assert run("run", suite, "--out", out)[0] == 0
    before = numbers(run, out)
    folders = sorted((out / "trials").iterdir())
    (folders[0] / "result.json").write_text('{"format": 1, "sta')
    (folders[1] / "result.json").write_text("[]")
    (folders[2] / "result.json").unlink()
    (folders[2] / "trial.json").write_text("")
    code, out_text, _ = run("status", out)
    assert code == 0
    assert "It will be run again." in " ".join(out_text.split())
    code, _, said = run("run", suite, "--out", out)
    assert code == 0
    assert "Ran 3 trials" in said
    assert numbers(run, out) == before


def test_a_damaged_checkpoint_is_set_aside(run, suite_file, tmp_path):
    suite, out = suite_file(SUITE), tmp_path / "out"
    assert run("run", suite, "--out", out)[0] == 0
    before = numbers(run, out)
    folder = sorted((out / "trials").iterdir())[0]
    (folder / "result.json").unlink()
    (folder / "checkpoint.pt").write_bytes(b"nothing of the sort")
    assert run("run", suite, "--out", out)[0] == 0
    assert numbers(run, out) == before
    assert (folder / "checkpoint.damaged.pt").exists()
    assert "Set aside" in (folder / "log.txt").read_text()


def test_a_lost_plan_is_made_again(run, suite_file, tmp_path):
    suite, out = suite_file(SUITE), tmp_path / "out"
    assert run("run", suite, "--out", out)[0] == 0
    before = numbers(run, out)
    (out / "plan.json").write_text("{")
    code, _, said = run("report", out)
    assert code == 3
    assert "is damaged" in said
    assert "regathlon run" in said
    assert run("run", suite, "--out", out)[0] == 0
    assert numbers(run, out) == before


def interrupt(when: Callable[[], bool], times: int = 1) -> threading.Thread:
    """Send Ctrl-C to this process once something has happened, however long that takes; return the thread."""

    def send() -> None:
        while not when():
            time.sleep(0.02)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(2 * ONE_KEYSTROKE)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def test_interrupting_keeps_checkpoints_and_going_on_gives_the_same_numbers(run, suite_file, tmp_path):
    suite = suite_file("tasks: [toy/blobs]\nregularizers: [noise+slow(seconds=0.1)]\nseeds: 3\n")
    out = tmp_path / "out"
    # After an epoch of a trial; the two that are left take longer than the signal.
    thread = interrupt(lambda: any(path.read_text() for path in out.glob("trials/*/metrics.jsonl")))
    code, _, said = run("run", suite, "--out", out, "--jobs", 2)
    thread.join()
    assert code == 130, said
    assert "Go on with: regathlon run" in said
    assert list((out / "trials").glob("*/checkpoint.pt"))
    assert "stopped at" in " ".join(run("status", out)[1].split())
    code, _, said = run("run", suite, "--out", out, "--jobs", 2)
    assert code == 0, said
    assert any("training from step 0" not in path.read_text().splitlines()[-1]
               and "resumed" in path.read_text() for path in out.glob("trials/*/log.txt"))  # fmt: skip
    assert run("run", suite, "--out", tmp_path / "whole", "--jobs", 2)[0] == 0
    assert numbers(run, out) == numbers(run, tmp_path / "whole")
    for name in (path.name for path in (out / "trials").iterdir()):
        histories = [
            [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in
             (folder / "trials" / name / "metrics.jsonl").read_text().splitlines()]
            for folder in (out, tmp_path / "whole")
        ]  # fmt: skip
        assert histories[0] == histories[1]


def test_a_second_interrupt_stops_now(run, suite_file, tmp_path):
    suite = suite_file("tasks: [toy/blobs]\nregularizers: [slow(seconds=20)]\nseeds: 1\n")
    out = tmp_path / "out"
    thread = interrupt(lambda: any(out.glob("trials/*/status.json")), times=2)
    code, _, said = run("run", suite, "--out", out)
    thread.join()
    assert code == 130
    assert "Stopped now" in said
    assert not list(out.glob("trials/*/result.json"))


def test_selections_read_other_epochs(run, suite_file, tmp_path):
    suite, out = suite_file(SUITE), tmp_path / "out"
    assert run("run", suite, "--out", out, "--set", "selection=best_val", "--set", "budget.epochs=5")[0] == 0
    assert {row["selection"] for row in rows(run, out)} == {"best_val"}
    for folder in (out / "trials").iterdir():
        result = json.loads((folder / "result.json").read_text())
        best = max(result["history"], key=lambda record: (record["val"]["accuracy"], -record["epoch"]))
        assert result["selections"]["best_val"]["epoch"] == best["epoch"]
    _, text, _ = run("export", out, "--selection", "oracle", "--format", "csv")
    found = {row["trial"]: float(row["value"]) for row in csv.DictReader(io.StringIO(text))
             if (row["split"], row["metric"]) == ("test", "accuracy")}  # fmt: skip
    for row in rows(run, out):
        if (row["split"], row["metric"]) == ("test", "accuracy"):
            assert float(row["value"]) <= found[row["trial"]]


STEPS = """
import resource
import regathlon.executors.preload
import torch
def faults():
    torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    before = faults()  # until what is free fits
for _ in range(20):
    after = faults()
print(after - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc's")
def test_trials_keep_the_memory_that_a_step_frees():
    """40 MB are 9,766 pages, each of which the system would hand out anew in each of 20 steps."""
    environment = {**os.environ, PRELOAD_LOG: "", PRELOAD_MODULES: ""}
    done = subprocess.run(
        [sys.executable, "-c", STEPS], capture_output=True, text=True, env=environment, check=True
    )
    assert int(done.stdout) < 9766


def test_skipped_cells_are_reported_and_do_not_fail_a_run(run, suite_file, tmp_path):
    suite = suite_file("tasks: [toy/blobs]\nregularizers: [none, graph_only]\nseeds: 2\n")
    code, table, _ = run("run", suite, "--out", tmp_path / "out")
    assert code == 0
    assert "skipped: graph_only needs training samples from several named domains" in " ".join(table.split())
    skipped = [row for row in rows(run, tmp_path / "out") if row["status"] == "skipped"]
    assert [(row["regularizer"], row["seed"], row["metric"]) for row in skipped] == [
        ("graph_only", "0", ""),
        ("graph_only", "1", ""),
    ]


def test_the_model_that_a_trial_keeps_teaches_another(run, suite_file, tmp_path):
    teacher = suite_file(
        "tasks: [toy/blobs]\nregularizers: [none]\nseeds: 1\nevaluations: [weights]\n"
        "models: {toy/blobs: [mlp(width=16)]}\n",
        "teacher",
    )
    weights = tmp_path / "teacher.pt"
    student = suite_file(
        "tasks: [toy/blobs]\nseeds: 1\nregularizers:\n  - none\n"
        f'  - \'distillation(teacher="mlp(width=16)", weights="{weights}")\'\n'
    )
    code, table, _ = run("run", student, "--out", tmp_path / "out")
    assert code == 0
    assert f"distillation needs the weights {weights}" in " ".join(table.split())
    assert {row["status"] for row in rows(run, tmp_path / "out")} == {"done", "skipped"}
    assert run("run", teacher, "--out", tmp_path / "teacher")[0] == 0
    trial_folder(tmp_path / "teacher", "none").joinpath("model.pt").rename(weights)
    code, _, said = run("run", student, "--out", tmp_path / "out")
    assert code == 0, said
    assert "1 trials to run" in said
    assert {row["status"] for row in rows(run, tmp_path / "out")} == {"done"}


def test_a_model_that_lacks_a_module_is_skipped_and_says_what_to_install(run, suite_file, tmp_path):
    suite = suite_file(
        "tasks: [toy/blobs]\nmodels: {toy/blobs: [mlp, lacking_mlp]}\nregularizers: [none]\nseeds: 1\n"
    )
    code, table, _ = run("run", suite, "--out", tmp_path / "out")
    assert code == 0
    wanted = "lacking_mlp needs toyplug_extra, which is not installed: pip install 'toyplug[extra]'"
    assert wanted in " ".join(table.split())
    assert [row["model"] for row in rows(run, tmp_path / "out") if row["status"] == "skipped"] == [
        "lacking_mlp"
    ]


def test_a_suite_of_which_nothing_can_run_is_an_invalid_plan(run, suite_file, tmp_path):
    suite = suite_file("tasks: [toy/downloaded]\nregularizers: [none]\n")
    code, _, said = run("run", suite, "--out", tmp_path / "out", "--data", tmp_path)
    assert code == 3
    assert "regathlon data fetch toy-files" in said


def test_another_suite_is_refused_in_the_same_folder(run, suite_file, tmp_path):
    assert run("run", suite_file(SUITE), "--out", tmp_path / "out", "--set", "seeds=1")[0] == 0
    code, _, said = run("run", suite_file(SUITE, "other"), "--out", tmp_path / "out")
    assert code == 3
    assert "holds a run of the suite 'toy'" in said
