"""What the runner asks of ``regathlon_data``: is a data set there, in which version, and how to get it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def root(data: Path | None) -> Path:
    """Return the folder of data sets: the one given, else ``REGATHLON_DATA``, else the user's cache folder."""
    import platformdirs

    chosen = data or os.environ.get("REGATHLON_DATA")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("regathlon"))


def version(dataset: str) -> str | None:
    """Return the version in a data set's manifest; None where it has no manifest (synthetic data)."""
    return None


def missing(dataset: str, data: Path | None) -> str | None:
    """Return why a data set cannot be used, with the command that gets it; None where it can."""
    return None


def names() -> list[str]:
    """Return the names of all data sets."""
    return []


def listing(data: Path | None) -> list[dict[str, Any]]:
    """Return a row per data set."""
    return []


def describe(dataset: str) -> str:
    """Return what there is to know of a data set."""
    return dataset
