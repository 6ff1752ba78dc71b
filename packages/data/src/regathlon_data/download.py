"""Downloading data sets: mirrors, resumption, verification, unpacking."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any

from regathlon_data.archives import extract
from regathlon_data.errors import DataError
from regathlon_data.registry import DataFile, manifest
from regathlon_data.store import data_root, fault

Progress = Callable[[str, int, int], None]
"""Hears (path of the file, bytes done, bytes in all) while a file is fetched."""

_CHUNK = 1 << 18
_TIMEOUT = 60


def _silent(path: str, done: int, total: int) -> None:
    pass


def _to_stderr(message: str) -> None:
    sys.stderr.write(message + "\n")


def fetch(
    name: str,
    root: Path | str | None = None,
    *,
    progress: Progress = _silent,
    notify: Callable[[str], None] = _to_stderr,
) -> Path:
    """Download what is missing of a data set and unpack it; what is there already is left as it is.

    Every file is tried at each of its addresses in order. An interrupted download goes on where it stopped, a
    file takes its name only once its SHA-256 is right, and the contents of an archive take their places only
    once all of it is unpacked. Nothing is ever asked: the licence is shown and the download begins.

    Args:
        name: The data set.
        root: The data root; see ``data_root``.
        progress: Called as bytes arrive.
        notify: Called with lines for the user (the licence); by default they go to stderr.

    Returns:
        The data root.

    Raises:
        DataError: There is no such data set, it cannot be downloaded, or all addresses of a file failed.
    """
    described = manifest(name)
    folder = data_root(root)
    wanted = [file for file in described.files if not _there(file, folder)]
    if not wanted:
        return folder
    by_hand = [file.path for file in wanted if not file.urls]
    if by_hand:
        raise DataError(
            f"The data set {name!r} cannot be downloaded for you ({described.licence}). "
            f"Get it from {described.home} and put it under {folder} as {', '.join(by_hand)}."
        )
    notify(f"{described.title}\nLicence: {described.licence}\nHome: {described.home}")
    for file in wanted:
        _fetch_file(file, folder, progress)
        if file.contents:
            _unpack(file, folder)
    return folder


def _there(file: DataFile, folder: Path) -> bool:
    if file.contents:
        return all((folder / content.path).exists() for content in file.contents)
    return fault(folder / file.path, file) is None


def _fetch_file(file: DataFile, folder: Path, progress: Progress) -> None:
    if fault(folder / file.path, file) is None:  # an archive that was fetched but not unpacked
        return
    import pooch  # type: ignore[import-untyped]

    target = folder / file.path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"The folder {target.parent} cannot be made: {error}. Choose another with --data."
        ) from error
    failures = []
    for url in file.urls:
        http = url.startswith(("http:", "https:"))
        downloader = _Resuming(file, target, progress) if http else pooch.choose_downloader(url)
        try:
            with _quiet(pooch.get_logger()):
                pooch.retrieve(
                    url, f"sha256:{file.sha256}", fname=target.name, path=target.parent, downloader=downloader
                )
            return
        except (OSError, HTTPException, ValueError) as error:  # unreachable, cut off; or the sum is wrong
            failures.append(f"{url} ({error})")
    raise DataError(f"{file.path} could not be fetched from any of its addresses: {'; '.join(failures)}")


class _Resuming:
    """A downloader for pooch that keeps what has arrived beside the target, and asks only for the rest."""

    def __init__(self, file: DataFile, target: Path, progress: Progress) -> None:
        assert file.sha256 is not None  # reading the manifest saw to both: the file has addresses
        assert file.bytes is not None
        self.path, self.size, self.progress = file.path, file.bytes, progress
        self.partial = target.with_name(f".{target.name}.{file.sha256[:12]}.partial")

    def __call__(self, url: str, output_file: Any, pooch: Any) -> None:
        have = self.partial.stat().st_size if self.partial.exists() else 0
        if have < self.size:
            have = self._download(url, have)
        if have < self.size:
            raise OSError(f"the connection ended after {have} of {self.size} bytes")
        self.partial.replace(output_file)

    def _download(self, url: str, have: int) -> int:
        request = urllib.request.Request(url, headers={"User-Agent": "regathlon"})
        if have:
            request.add_header("Range", f"bytes={have}-")
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            resumed = have > 0 and response.status == HTTPStatus.PARTIAL_CONTENT
            done = have if resumed else 0
            length = response.headers.get("Content-Length")
            if length is not None and done + int(length) != self.size:
                # Another file, an error page: it must not become the beginning of the right one.
                raise OSError(f"it offers {done + int(length)} bytes instead of {self.size}")
            with self.partial.open("ab" if resumed else "wb") as sink:
                while done < self.size and (chunk := response.read(_CHUNK)):
                    sink.write(chunk)
                    done += len(chunk)
                    self.progress(self.path, done, self.size)
        return done


def _unpack(file: DataFile, folder: Path) -> None:
    """Unpack beside the target, then move what is missing into place: nobody sees a folder half unpacked."""
    archive = folder / file.path
    staging = archive.with_name(f".{archive.name}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        extract(archive, staging)
        for content in file.contents:
            source = staging / Path(content.path).relative_to(Path(file.path).parent)
            target = folder / content.path
            if target.exists():
                continue
            if not source.exists():
                raise DataError(f"has no {content.path}, which its manifest promises.", where=archive)
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    archive.unlink()


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
