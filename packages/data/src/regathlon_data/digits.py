"""The UCI handwritten digits, which ship with this package."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Digits:
    """1797 handwritten digits of 43 writers.

    Attributes:
        images: uint8 [1797, 8, 8], ink from 0 to 16.
        labels: int64 [1797], 0 to 9.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@functools.cache
def load_digits() -> Digits:
    """Return the UCI digits (Alpaydin & Kaynak 1998, CC BY 4.0), read-only.

    Example:
        >>> digits = load_digits()
        >>> digits.images.shape, int(digits.images.max()), digits.labels[:3].tolist()
        ((1797, 8, 8), 16, [0, 1, 2])
    """
    with resources.files("regathlon_data").joinpath("embedded/digits.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        images, labels = arrays["images"], arrays["labels"].astype(np.int64)
    images.flags.writeable = labels.flags.writeable = False
    return Digits(images, labels)
