"""Errors that a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DataError(ValueError):
    """A data set, or what was asked of it, cannot be used: says what, where, and what to do.

    Example:
        >>> print(DataError("bytes must be positive, not 0.", where="digits.yaml"))
        digits.yaml: bytes must be positive, not 0.
    """

    def __init__(self, message: str, *, where: object = None) -> None:
        self.message = message
        self.where = None if where is None else str(where)
        super().__init__(message if where is None else f"{where}: {message}")


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return the sentence that names the choices most like ``name``, or all of them where none is near.

    Example:
        >>> did_you_mean("digit", ["digits", "karate"])
        "Did you mean 'digits'?"
        >>> did_you_mean("xyz", ["digits", "karate"])
        "Valid: 'digits', 'karate'."
    """
    ordered = sorted(choices)
    near = difflib.get_close_matches(name, ordered, n=3, cutoff=0.55)
    if near:
        return f"Did you mean {' or '.join(map(repr, near))}?"
    return f"Valid: {', '.join(map(repr, ordered))}." if ordered else ""
