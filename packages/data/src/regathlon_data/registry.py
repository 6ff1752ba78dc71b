"""Manifests: what a data set is, where its files come from, and how to know that they are whole.

A manifest is a YAML file named after its data set::

    name: cora
    version: 1                  # raised by one whenever the samples, labels or splits change
    title: Cora citation network
    licence: none stated
    home: https://linqs.org/datasets/
    citation: |
      @article{...}
    splits: {train: 140, val: 500, test: 1000}
    statistics: {nodes: 2708, features: 1433, classes: 7}
    files:                      # or `embedded: true`
      - path: Cora/raw/ind.cora.x
        urls: [https://..., https://...]        # mirrors, tried in order; none where it cannot be fetched
        sha256: 9fdd...                         # this and the size are needed where there are addresses
        bytes: 247955
      - path: cora-extra.tar.gz
        urls: [...]
        sha256: ...
        bytes: ...
        contents: [Cora/extra]                  # an archive: what it leaves in the archive's folder
      - path: PACS                              # a folder that one brings by hand
        also: [pacs/images]                     # other places where it may lie instead

An entry point of the group ``regathlon.datasets`` names a package whose folder, subfolders included, holds
manifests.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from regathlon_data.errors import DataError, did_you_mean

GROUP = "regathlon.datasets"


@dataclass(frozen=True)
class Content:
    """A file or folder that unpacking an archive leaves.

    Attributes:
        path: Relative to the data root, with forward slashes.
        sha256: Of a file, where it is known.
        bytes: Size of a file, where it is known.
    """

    path: str
    sha256: str | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class DataFile:
    """A file of a data set.

    Attributes:
        path: Relative to the data root, with forward slashes.
        sha256: 64 hexadecimal digits; None where it is not known, and then there are no addresses.
        bytes: Size; likewise.
        urls: Where it can be fetched, tried in order.
        contents: What unpacking it leaves; empty where the file itself is what is needed.
        also: Other places, relative to the data root, where it may lie instead.
    """

    path: str
    sha256: str | None = None
    bytes: int | None = None
    urls: tuple[str, ...] = ()
    contents: tuple[Content, ...] = ()
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """What is known of a data set.

    Attributes:
        name: As tasks refer to it.
        version: Part of a trial's identity.
        title: In words.
        licence: SPDX identifier or terms in words.
        citation: BibTeX.
        home: Address of its home page.
        embedded: Whether it ships with a package and needs no files.
        files: What must lie under the data root.
        splits: Samples of each split.
        statistics: Other numbers (classes, domains, nodes, ...).
        source: The file it was read from.
    """

    name: str
    version: int
    title: str
    licence: str
    citation: str
    home: str
    source: Path
    embedded: bool = False
    files: tuple[DataFile, ...] = ()
    splits: Mapping[str, int] = field(default_factory=dict)
    statistics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def area(self) -> str:
        """Name of the folder that holds it: vision, points, graphs, dg, ..."""
        return self.source.parent.name

    @property
    def download_bytes(self) -> int:
        """Bytes to fetch when nothing is there."""
        return sum(file.bytes or 0 for file in self.files)


def manifest_names() -> tuple[str, ...]:
    """Return the names of all data sets, sorted, without reading their manifests.

    Example:
        >>> "digits" in manifest_names()
        True
    """
    return tuple(_sources())


@functools.cache
def manifest(name: str) -> Manifest:
    """Return the manifest of a data set.

    Raises:
        DataError: There is no such data set, two packages bring it, or its manifest is wrong.

    Example:
        >>> digits = manifest("digits")
        >>> digits.version, digits.licence, digits.embedded, digits.splits["train"]
        (1, 'CC-BY-4.0', True, 1078)
    """
    sources = _sources()
    if name not in sources:
        hint = did_you_mean(name, sources)
        raise DataError(f"There is no data set {name!r}. {hint} (All of them: regathlon data list)")
    path, *others = sources[name]
    if others:
        raise DataError(
            f"Two packages bring the data set {name!r}: {path} and {others[0]}. Uninstall one of them."
        )
    return read_manifest(path)


def manifests() -> dict[str, Manifest]:
    """Return the manifests of all data sets by name.

    Raises:
        DataError: One of them is wrong.
    """
    return {name: manifest(name) for name in manifest_names()}


@functools.cache
def _sources() -> Mapping[str, tuple[Path, ...]]:
    found: dict[str, set[Path]] = {}
    for point in entry_points(group=GROUP):
        try:
            spec = importlib.util.find_spec(point.value)
        except ModuleNotFoundError:
            spec = None
        if spec is None:
            raise DataError(
                f"The entry point {point.name!r} of {GROUP} names {point.value!r}, which is no package."
            )
        for folder in spec.submodule_search_locations or ():
            for path in Path(folder).resolve().rglob("*.yaml"):
                found.setdefault(path.stem, set()).add(path)
    return {name: tuple(sorted(paths)) for name, paths in sorted(found.items())}


def read_manifest(path: Path) -> Manifest:
    """Read and check one manifest.

    Raises:
        DataError: It is no YAML, or has missing, unknown or impossible entries; the message names the file.
    """
    import yaml

    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot be read: {' '.join(str(error).split())}", where=path) from error
    try:
        entries = _Entries(raw, "manifest", {*_TEXTS, "version", "embedded", "files", "splits", "statistics"})
        texts = {key: entries.text(key) for key in _TEXTS}
        if texts["name"] != path.stem:
            raise DataError(f"name is {texts['name']!r}, but the file is called {path.name}.")
        embedded = entries.get("embedded", bool, False)
        files = tuple(_file(item) for item in entries.get("files", list, []))
        if bool(files) == embedded:
            raise DataError("A data set is either embedded or has files, exactly one of them.")
        splits = entries.get("splits", dict, {})
        for split, count in splits.items():
            if not isinstance(count, int) or count < 0:
                raise DataError(f"splits.{split} must be a number of samples, not {count!r}.")
        return Manifest(
            **texts,
            version=entries.positive("version"),
            source=path,
            embedded=embedded,
            files=files,
            splits=MappingProxyType(splits),
            statistics=MappingProxyType(entries.get("statistics", dict, {})),
        )
    except DataError as error:
        raise DataError(error.message, where=path) from None


_TEXTS = ("name", "title", "licence", "citation", "home")


def _file(raw: object) -> DataFile:
    entries = _Entries(raw, "file", {"path", "sha256", "bytes", "urls", "contents", "also"})
    path = _relative(entries.text("path"))
    urls = entries.get("urls", list, [])
    for url in urls:
        if not isinstance(url, str) or not re.match(r"(https?|ftp|doi):", url):
            raise DataError(f"The address {url!r} of {path} must begin with https:, http:, ftp: or doi:.")
    folder = PurePosixPath(path).parent
    return DataFile(
        path=path,
        sha256=_sha256(entries.text("sha256")) if urls or "sha256" in entries.raw else None,
        bytes=entries.positive("bytes") if urls or "bytes" in entries.raw else None,
        urls=tuple(urls),
        contents=tuple(_content(item, folder) for item in entries.get("contents", list, [])),
        also=tuple(_relative(str(item)) for item in entries.get("also", list, [])),
    )


def _content(raw: object, folder: PurePosixPath) -> Content:
    entries = _Entries({"path": raw} if isinstance(raw, str) else raw, "content", {"path", "sha256", "bytes"})
    return Content(
        path=str(folder / _relative(entries.text("path"))),
        sha256=_sha256(entries.text("sha256")) if "sha256" in entries.raw else None,
        bytes=entries.positive("bytes") if "bytes" in entries.raw else None,
    )


def _relative(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or str(pure) == ".":
        raise DataError(f"The path {path!r} must be relative, with forward slashes and without '..'.")
    return str(pure)


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise DataError(f"sha256 must be 64 lower-case hexadecimal digits, not {text!r}.")
    return text


class _Entries:
    """A mapping read from YAML, with checks that say what is wrong."""

    def __init__(self, raw: object, kind: str, known: set[str]) -> None:
        if not isinstance(raw, dict):
            raise DataError(f"A {kind} is a mapping, not {type(raw).__name__}.")
        for key in raw:
            if key not in known:
                raise DataError(f"A {kind} has no entry {key!r}. {did_you_mean(str(key), known)}")
        self.raw, self.kind = raw, kind

    def get(self, key: str, kind: type, default: Any) -> Any:
        value = self.raw.get(key, default)
        if not isinstance(value, kind):
            raise DataError(f"{key} must be a {kind.__name__}, not {value!r}.")
        return value

    def text(self, key: str) -> str:
        if key not in self.raw:
            raise DataError(f"A {self.kind} needs the entry {key!r}.")
        value = self.raw[key]
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{key} must be text, not {value!r}; put it in quotes.")
        return value.strip()

    def positive(self, key: str) -> int:
        if key not in self.raw:
            raise DataError(f"A {self.kind} needs the entry {key!r}.")
        value = self.raw[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise DataError(f"{key} must be a whole number above 0, not {value!r}.")
        return value
