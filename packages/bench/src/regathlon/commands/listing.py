"""``regathlon list``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from regathlon import datasets, plugins, yaml_text
from regathlon.commands.output import err, write_json, write_table
from regathlon_core.errors import unknown

Rows = list[dict[str, Any]]


def show_list(kind: str, *, as_json: bool) -> None:
    """Print what is installed of a kind."""
    if kind not in KINDS:
        raise unknown("list of", kind, KINDS, listing="regathlon list --help")
    rows = KINDS[kind]()
    if as_json:
        write_json(rows)
    elif rows:
        write_table(rows, [key for key in rows[0] if key != "settings"])
    else:
        err().print(f"No {kind} are installed.")
    for broken in plugins.load_all(kind[:-1])[1] if kind[:-1] in plugins.KINDS and kind != "suites" else ():
        err().print(f"Broken: {broken}", style="red", soft_wrap=True)


def _tasks() -> Rows:
    return [
        {
            "task": name,
            "dataset": task().dataset,  # of the default settings, which it may depend on
            "models": [model.name for model in task.models],
            "metric": task.metric,
            "summary": task.summary,
        }
        for name, task in plugins.load_all("task")[0].items()
    ]


def _models() -> Rows:
    rows: dict[str, dict[str, Any]] = {}
    for name, task in plugins.load_all("task")[0].items():
        for model in task.models:
            rows.setdefault(model.name, {"model": model.name, "summary": model.summary, "tasks": []})[
                "tasks"
            ].append(name)
    return [rows[name] for name in sorted(rows)]


def _regularizers() -> Rows:
    return [
        {
            "regularizer": name,
            "stage": regularizer.stage.name.lower(),
            "needs": sorted(regularizer.needs),
            "summary": regularizer.summary,
        }
        for name, regularizer in plugins.load_all("regularizer")[0].items()
    ]


def _evaluations() -> Rows:
    return [
        {"evaluation": name, "needs": sorted(evaluation.needs), "summary": evaluation.summary}
        for name, evaluation in plugins.load_all("evaluation")[0].items()
    ]


def _suites() -> Rows:
    rows = []
    for name, path in plugins.suite_files().items():
        value = yaml_text.read(path.read_text(encoding="utf-8"), str(path)).value
        title = value.get("title", "") if isinstance(value, dict) else ""
        rows.append({"suite": name, "title": title})
    return rows


def _executors() -> Rows:
    return _summed_up("executor")


def _trackers() -> Rows:
    return _summed_up("tracker")


def _summed_up(kind: str) -> Rows:
    return [
        {kind: name, "summary": (plugin.__doc__ or "").strip().partition("\n")[0]}
        for name, plugin in plugins.load_all(kind)[0].items()
    ]


KINDS: Mapping[str, Callable[[], Rows]] = {
    "tasks": _tasks,
    "models": _models,
    "regularizers": _regularizers,
    "evaluations": _evaluations,
    "datasets": lambda: datasets.listing(None),
    "suites": _suites,
    "executors": _executors,
    "trackers": _trackers,
}
