"""Checkpoints: a kill at any moment leaves the old or the new one whole; reading executes nothing."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from regathlon_core.errors import UserError

FORMAT = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state atomically: temporary name, fsync, rename.

    Args:
        path: Where it is to be.
        state: Tensors, numbers, strings and containers of them.
    """
    temporary = path.with_name(path.name + ".partial")
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a state onto the CPU, without executing anything that the file holds.

    Raises:
        UserError: The file is damaged, holds more than data, or was written by another version.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load compares no checksums
        if damaged is not None:
            raise zipfile.BadZipFile(f"bad checksum of {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails anywhere in the readers, with any error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"The checkpoint {path} cannot be read ({reason}). Delete it to start this training again."
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise UserError(
            f"The checkpoint {path} has format {found!r}; this version reads {FORMAT}. "
            f"Delete it to start this training again."
        )
    return state
