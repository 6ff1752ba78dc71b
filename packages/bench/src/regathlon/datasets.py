"""What the runner asks of ``regathlon_data``: is a data set there, in which version, and how to get it.

A data set without a manifest is one that its task makes itself (synthetic): always there, without a version.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import regathlon_data
from regathlon_core.errors import unknown
from regathlon_core.settings import TaskSettings


def root(data: Path | None) -> Path:
    """Return the folder of data sets: the one given, else ``REGATHLON_DATA``, else the user's cache."""
    return regathlon_data.data_root(data)


def names() -> tuple[str, ...]:
    """Return the names of all data sets that have a manifest."""
    return regathlon_data.manifest_names()


def version(dataset: str) -> int | None:
    """Return the version in a data set's manifest."""
    return regathlon_data.manifest(dataset).version if dataset in names() else None


def usual(task: type[TaskSettings]) -> str:
    """Return the data set of a task whose settings are left as they are; for some it depends on them."""
    return task.dataset if isinstance(task.dataset, str) else task().dataset


def missing(dataset: str, data: Path | None) -> str | None:
    """Return why a data set cannot be used, with the command that gets it; None where it can."""
    if dataset not in names() or not (files := regathlon_data.missing_files(dataset, data)):
        return None
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"data set {dataset} is not here ({files[0]}{more}): regathlon data fetch {dataset}"


def citation(dataset: str) -> str:
    """Return what a data set's manifest says to cite; empty where there is no manifest."""
    return regathlon_data.manifest(dataset).citation if dataset in names() else ""


def listing(data: Path | None) -> list[dict[str, Any]]:
    """Return a row per data set."""
    rows = []
    for name, manifest in regathlon_data.manifests().items():
        here = "embedded" if manifest.embedded else "yes" if regathlon_data.is_present(name, data) else "no"
        rows.append(
            {
                "dataset": name,
                "here": here,
                "size": "" if manifest.embedded else size(manifest.download_bytes),
                "licence": manifest.licence,
                "title": manifest.title,
            }
        )
    return rows


def describe(dataset: str) -> str:
    """Return what there is to know of a data set."""
    manifest = regathlon_data.manifest(check(dataset))
    numbers = {**manifest.splits, **manifest.statistics}
    lines = [
        f"# {manifest.name}",
        "",
        f"{manifest.title} (version {manifest.version}).",
        "",
        f"Licence: {manifest.licence}",
        f"Home: {manifest.home}",
        f"Files: {'ships with the package' if manifest.embedded else size(manifest.download_bytes)}",
        *(f"{key}: {value}" for key, value in numbers.items()),
        "",
        manifest.citation,
    ]
    return "\n".join(lines)


def check(dataset: str) -> str:
    """Return the name of a data set.

    Raises:
        UserError: There is no such data set; the message names the nearest.
    """
    if dataset not in names():
        raise unknown("data set", dataset, names(), listing="regathlon data list")
    return dataset


def size(count: int) -> str:
    """Write a number of bytes for people.

    Example:
        >>> [size(n) for n in (120, 247_955, 3_200_000_000)]
        ['120 B', '248 kB', '3.2 GB']
    """
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= factor:
            return f"{count / factor:.{1 if unit == 'GB' else 0}f} {unit}"
    return f"{count} B"
