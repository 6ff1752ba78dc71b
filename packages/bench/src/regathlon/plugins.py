"""What is installed: tasks, regularizers, evaluations, suites and executors, found through entry points.

First-party packages register exactly as third parties do. Nothing here imports torch: an entry point of a
task or regularizer loads a declaration (``regathlon_core.settings``).
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from regathlon_core.errors import UserError, unknown
from regathlon_core.settings import EvaluationSettings, RegularizerSettings, TaskSettings

EXTRAS: Mapping[str, str] = {
    "vision": "vision",
    "segmentation": "vision",
    "detection": "vision",
    "points": "points",
    "graphs": "graphs",
    "dg": "dg",
}
"""Area of a task -> the extra of this package that brings it."""

KINDS: Mapping[str, str] = {
    "task": "regathlon.tasks",
    "regularizer": "regathlon.regularizers",
    "evaluation": "regathlon.evaluations",
    "suite": "regathlon.suites",
    "executor": "regathlon.executors",
    "paper": "regathlon.papers",
    "tracker": "regathlon.trackers",
}
"""Kind of plugin -> its entry-point group."""

_DECLARATIONS: Mapping[str, type] = {
    "task": TaskSettings,
    "regularizer": RegularizerSettings,
    "evaluation": EvaluationSettings,
}


class BrokenPlugin(UserError):
    """An entry point that is installed but cannot be used."""


@functools.cache
def registered(kind: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    """Return the entry points of a kind by name; more than one under a name is a conflict (see ``load``).

    Args:
        kind: A key of ``KINDS``.
    """
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=KINDS[kind]):
        found.setdefault(point.name, {}).setdefault(point.value, point)
    return {name: tuple(points.values()) for name, points in sorted(found.items())}


def load(kind: str, name: str, *, where: str | None = None) -> Any:
    """Return what an entry point refers to.

    Raises:
        UserError: No such name; the message names the nearest or, where a package is missing, its extra.
        BrokenPlugin: It is installed and cannot be loaded.
    """
    points = registered(kind).get(name)
    if points is None:
        raise _missing(kind, name, where)
    if len(points) > 1:
        owners = ", ".join(f"{_owner(point)} ({point.value})" for point in points)
        raise BrokenPlugin(
            f"Two packages register the {kind} {name!r}: {owners}. Uninstall one of them.", where=where
        )
    try:
        loaded = points[0].load()
    except Exception as error:
        raise BrokenPlugin(
            f"The {kind} {name!r} of {_owner(points[0])} cannot be loaded: {type(error).__name__}: {error}. "
            "(More: regathlon doctor)",
            where=where,
        ) from error
    base: Any = _DECLARATIONS.get(kind)
    fits = base is None or (isinstance(loaded, type) and issubclass(loaded, base))
    if not fits or (base is not None and loaded.name != name):
        raise BrokenPlugin(
            f"The {kind} {name!r} of {_owner(points[0])} is registered as {points[0].value}, "
            f"which is no {base.__name__} of that name.",
            where=where,
        )
    return loaded


def load_all(kind: str) -> tuple[dict[str, Any], list[BrokenPlugin]]:
    """Return all plugins of a kind by name, and the errors of those that cannot be loaded."""
    loaded, broken = {}, []
    for name in registered(kind):
        try:
            loaded[name] = load(kind, name)
        except BrokenPlugin as error:
            broken.append(error)
    return loaded, broken


def missing_extra(task: str) -> str | None:
    """Return the extra that would bring a task, where the package of its area is not installed.

    Example:
        >>> missing_extra("nonsense/digits") is None
        True
    """
    extra = EXTRAS.get(task.partition("/")[0])
    if extra is None or task in registered("task") or importlib.util.find_spec(f"regathlon_{extra}"):
        return None
    return extra


def suite_files() -> Mapping[str, Path]:
    """Return the installed suites: name -> YAML file."""
    return packaged_files("suite", "*.yaml")


@functools.cache
def packaged_files(kind: str, pattern: str) -> Mapping[str, Path]:
    """Return the files in the folders that entry points of a kind name: stem -> file."""
    found: dict[str, Path] = {}
    for points in registered(kind).values():
        for point in points:
            spec = importlib.util.find_spec(point.module)
            folders = spec.submodule_search_locations if spec else None
            for folder in folders or ():
                for path in sorted(Path(folder).glob(pattern)):
                    found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def _missing(kind: str, name: str, where: str | None) -> UserError:
    extra = missing_extra(name) if kind == "task" else None
    if extra is not None:
        return UserError(f"The task {name!r} {needs_extra(extra)}.", where=where)
    return unknown(kind, name, registered(kind), listing=f"regathlon list {kind}s", where=where)


def needs_extra(extra: str) -> str:
    """Return the words for a package that is not installed."""
    return f"needs the package regathlon-{extra}: pip install 'regathlon[{extra}]'"


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value
