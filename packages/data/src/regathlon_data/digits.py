"""The UCI handwritten digits, which ship with this package, and how they are split."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

SHARES = {"train": 0.6, "val": 0.15, "test": 0.25}
"""Share of each split, within every class."""


@dataclass(frozen=True)
class Digits:
    """1797 handwritten digits: the test part of the UCI data, which 13 people wrote one after another.

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


@functools.cache
def split_digits() -> dict[str, NDArray[np.int64]]:
    """Return the digits of each split as indices into ``load_digits``: 60 % train, 15 % val, 25 % test.

    Every class is cut at the same shares in the order of the file. It follows the writers, so the test digits
    are by other hands than most of the training digits, which a shuffled split would hide.

    Returns:
        ``"train"``, ``"val"``, ``"test"`` -> sorted int64 indices, disjoint and together all of them.

    Example:
        >>> {split: len(indices) for split, indices in split_digits().items()}
        {'train': 1078, 'val': 269, 'test': 450}
    """
    labels = load_digits().labels
    ends = np.cumsum(list(SHARES.values()))[:-1]
    parts: dict[str, list[NDArray[np.int64]]] = {split: [] for split in SHARES}
    for label in range(10):
        members = np.flatnonzero(labels == label)
        cuts = np.round(ends * len(members)).astype(int)
        for split, part in zip(SHARES, np.split(members, cuts), strict=True):
            parts[split].append(part)
    return {split: np.sort(np.concatenate(chunks)) for split, chunks in parts.items()}
