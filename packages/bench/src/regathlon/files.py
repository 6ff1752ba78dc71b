"""Files that a kill at any moment leaves whole, and reading that survives what others left behind."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regathlon_core.errors import UserError


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a file atomically: temporary name, fsync, rename.

    Args:
        path: Where; its folder exists.
        text: What.
        durable: Whether it must survive a power cut; heartbeats need not.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
    if durable:
        _sync_folder(path.parent)


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write JSON atomically; floats keep all their bits, and what is not finite becomes null."""
    write_text(path, json.dumps(finite(value), indent=1, allow_nan=False) + "\n", durable=durable)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the mapping in a file; None where there is no file.

    Raises:
        UserError: The file is damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}).") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged (it holds no mapping).")
    return value


def finite(value: Any) -> Any:
    """Return plain data with None in place of NaN and infinities, which JSON does not have.

    Example:
        >>> finite({"loss": [1.0, float("nan")]})
        {'loss': [1.0, None]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn the system's refusal to write somewhere into a message.

    Raises:
        UserError: A file or folder cannot be written; says which and why.
    """
    try:
        yield
    except OSError as error:
        path = error.filename or folder
        raise UserError(
            f"Cannot write to {path}: {error.strerror or error}. Give a writable folder with --out."
        ) from error


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
