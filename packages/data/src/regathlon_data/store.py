"""Where data lies, and whether it is there and whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from regathlon_data.errors import DataError
from regathlon_data.registry import Content, DataFile, Manifest, manifest, manifest_names


def data_root(explicit: Path | str | None = None) -> Path:
    """Return the folder of data sets: the one given, else ``REGATHLON_DATA``, else the user's cache folder.

    Example:
        >>> data_root("/data").as_posix()
        '/data'
    """
    chosen = explicit or os.environ.get("REGATHLON_DATA")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("regathlon"))


@dataclass(frozen=True)
class Problem:
    """A file that is missing or damaged.

    Attributes:
        path: Relative to the data root.
        reason: What is wrong with it.
    """

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def missing_files(name: str, root: Path | str | None = None) -> tuple[str, ...]:
    """Return what of a data set is not there, as paths relative to the data root; nothing is opened.

    Raises:
        DataError: There is no such data set.

    Example:
        >>> missing_files("digits")  # ships with this package
        ()
    """
    folder = data_root(root)
    return tuple(part.path for part in _needed(manifest(name)) if not _place(folder, part).exists())


def is_present(name: str, root: Path | str | None = None) -> bool:
    """Return whether everything of a data set is there (``verify`` also asks whether it is whole).

    Raises:
        DataError: There is no such data set.
    """
    return not missing_files(name, root)


def require(name: str, root: Path | str | None = None) -> Path:
    """Return the data root where a data set is there.

    Raises:
        DataError: It is not; the message names what is missing and the command that gets it.

    Example:
        >>> require("digits", "/data").as_posix()
        '/data'
    """
    missing = missing_files(name, root)
    folder = data_root(root)
    if not missing:
        return folder
    shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    raise DataError(
        f"The data set {name!r} is not complete under {folder}: there is no {shown}. "
        f"Get it with: regathlon data fetch {name}"
    )


def located(name: str, root: Path | str | None = None) -> Path:
    """Return the data root of a data set that may be one of the user's own: only what a manifest lists has to be there.

    Raises:
        DataError: The data set has a manifest and is not complete.

    Example:
        >>> located("my-graphs", "/data").as_posix()
        '/data'
    """
    return require(name, root) if name in manifest_names() else data_root(root)


def verify(name: str, root: Path | str | None = None) -> tuple[Problem, ...]:
    """Return what is missing or damaged of a data set; sizes and SHA-256 sums are compared where known.

    Raises:
        DataError: There is no such data set.
    """
    folder = data_root(root)
    problems = ((part.path, fault(_place(folder, part), part)) for part in _needed(manifest(name)))
    return tuple(Problem(path, reason) for path, reason in problems if reason is not None)


def fault(path: Path, expected: DataFile | Content) -> str | None:
    """Return what is wrong with a file, or None."""
    if not path.exists():
        return "missing"
    if expected.bytes is not None and (size := path.stat().st_size) != expected.bytes:
        return f"damaged: {size} bytes instead of {expected.bytes}"
    if expected.sha256 is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected.sha256:
            return f"damaged: SHA-256 is {found} instead of {expected.sha256}"
    return None


def _place(folder: Path, part: DataFile | Content) -> Path:
    """Return where a part lies: its usual place, unless only another one is there."""
    also = part.also if isinstance(part, DataFile) else ()
    places = [folder / path for path in (part.path, *also)]
    return next((place for place in places if place.exists()), places[0])


def _needed(described: Manifest) -> Iterator[DataFile | Content]:
    """Yield what must be there: of an archive its contents, not the archive."""
    for file in described.files:
        yield from file.contents or (file,)
