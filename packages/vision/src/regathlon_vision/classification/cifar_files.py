"""Reading CIFAR's files: Python pickles, opened without trusting them."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regathlon_core.errors import UserError

_SIDE = 32


def read_batches(paths: Sequence[Path], label: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the images and labels of some of CIFAR's batch files.

    They are pickles, which could run any code when opened, so nothing is rebuilt but dictionaries, lists, text and
    arrays of numbers.

    Args:
        paths: The files, in order.
        label: Which labels: ``"labels"``, ``"fine_labels"`` or ``"coarse_labels"``.

    Returns:
        Images uint8 [N, 3, 32, 32] and labels int64 [N].

    Raises:
        UserError: A file is missing, damaged or holds something else.
    """
    parts = [_batch(path, label) for path in paths]
    images, labels = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def read_names(path: Path, key: str) -> tuple[str, ...]:
    """Read the names of the classes from CIFAR's meta file.

    Raises:
        UserError: It is missing, damaged or holds something else.
    """
    names = _load(path).get(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"It holds no {key}.", where=str(path))
    return tuple(names)


def _batch(path: Path, label: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    content = _load(path)
    data, labels = content.get("data"), content.get(label)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3 * _SIDE * _SIDE,):
        raise UserError("It holds no rows of 3 x 32 x 32 bytes.", where=str(path))
    if (
        not isinstance(labels, list)
        or len(labels) != len(data)
        or not all(isinstance(y, int) for y in labels)
    ):
        raise UserError(f"It holds no {label} for its {len(data)} images.", where=str(path))
    return data.reshape(-1, 3, _SIDE, _SIDE), np.array(labels, np.int64)


def _reconstruct(*_: object) -> NDArray[Any]:
    """Make the empty array that the pickle's next entry fills."""
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _bytes(text: str, encoding: str = "latin1") -> bytes:
    """Return the bytes that Python 3 wrote as text, for Python 2 to read."""
    return text.encode("latin1")


_ALLOWED = {
    ("_codecs", "encode"): _bytes,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
}


class _Cautious(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch of images needs")
        return _ALLOWED[module, name]


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = _Cautious(file, encoding="latin1").load()
    except FileNotFoundError:
        raise UserError("There is no such file.", where=str(path)) from None
    except Exception as error:  # whatever damaged bytes may lead to
        raise UserError(f"It is damaged or no part of CIFAR: {error}", where=str(path)) from error
    if not isinstance(content, dict):
        raise UserError("It holds no dictionary, so it is no part of CIFAR.", where=str(path))
    return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in content.items()}
