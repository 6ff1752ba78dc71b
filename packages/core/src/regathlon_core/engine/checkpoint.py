"""Checkpoints: written so that a kill at any moment leaves the old or the new one whole, read without unpickling."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from regathlon_core.errors import UserError

FORMAT = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state (tensors, numbers, strings and containers of them) atomically: temporary name, fsync, rename."""
    temporary = path.with_name(path.name + ".partial")
    with temporary.open("wb") as file:
        torch.save({"format": FORMAT, **state}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a state onto the CPU.

    Raises:
        UserError: The file is damaged, holds more than data, or was written by another version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"The checkpoint {path} cannot be read ({reason}). Delete it to start this training again."
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise UserError(
            f"The checkpoint {path} has format {found!r}, this version reads {FORMAT}. Delete it to start again."
        )
    return state
