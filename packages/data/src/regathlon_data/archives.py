"""Unpacking archives without leaving their folder."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from regathlon_data.errors import DataError


def extract(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive (gz, bz2, xz too) into a folder.

    Nothing is ever written outside the folder: absolute paths, ``..``, links that point out of it and special
    files are refused before or while unpacking.

    Args:
        archive: The file; its kind is told by its content.
        folder: Made where it does not exist.

    Raises:
        DataError: It is no archive, it is damaged, or a member would leave the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(archive):
            _extract_zip(archive, folder)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                _refuse_leavers([member.name for member in tar.getmembers()], archive)
                tar.extractall(folder, filter="data")
        else:
            raise DataError("is no zip or tar archive.", where=archive)
    except tarfile.FilterError as error:
        raise DataError(f"refused, as a member would leave its folder: {error}", where=archive) from error
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise DataError(f"cannot be unpacked: {error}", where=archive) from error


def _extract_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        _refuse_leavers([member.filename for member in members], archive)
        for member in members:
            mode = member.external_attr >> 16
            if stat.S_ISLNK(mode):
                raise DataError(f"refused: the member {member.filename!r} is a link.", where=archive)
            target = folder / member.filename
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            # zipfile checks each member's CRC as it is read to its end.
            with file.open(member) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)


def _refuse_leavers(names: list[str], archive: Path) -> None:
    # tarfile's filter strips leading slashes instead of refusing them; who writes any is not trusted here.
    for name in names:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or (os.name == "nt" and ":" in name):
            raise DataError(f"refused: the member {name!r} would leave its folder.", where=archive)
