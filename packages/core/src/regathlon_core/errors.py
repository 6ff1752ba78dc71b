"""Errors that a user can act on, and the nearest valid name for a wrong one."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class UserError(ValueError):
    """Something the user wrote cannot be used: says what, where, and what to do.

    The command line prints it as one message without a traceback; in Python it is an ordinary ``ValueError``.

    Args:
        message: What is wrong and what would be right, in whole sentences.
        where: The place it was read from (``suite.yaml:4``, ``--set recipe.lr``), if there is one.

    Example:
        >>> print(UserError("epochs must be positive, not 0.", where="suite.yaml:7"))
        suite.yaml:7: epochs must be positive, not 0.
    """

    def __init__(self, message: str, *, where: str | None = None) -> None:
        self.message = message
        self.where = where
        super().__init__(message if where is None else f"{where}: {message}")

    def at(self, where: str) -> UserError:
        """Return the same error with its place named, unless it already has one."""
        return self if self.where is not None else UserError(self.message, where=where)


@contextlib.contextmanager
def for_the_user(*errors: type[Exception]) -> Iterator[None]:
    """Say errors of a package that does not know this one, and whose messages tell what to do, as ``UserError``.

    Args:
        errors: The classes, such as ``regathlon_data.DataError``.

    Example:
        >>> try:
        ...     with for_the_user(LookupError):
        ...         raise LookupError("There is no data set 'sifar10'.")
        ... except UserError as error:
        ...     print(error)
        There is no data set 'sifar10'.
    """
    try:
        yield
    except errors as error:
        raise UserError(str(error)) from error


class NoEffectWarning(UserWarning):
    """Something in code of one's own has no effect; in a suite it is a ``UserError``."""


def nearest(name: str, choices: Iterable[str], *, count: int = 3) -> list[str]:
    """Return the choices most like ``name``, best first; empty where nothing is near.

    Args:
        name: What was written.
        choices: The valid names.
        count: At most this many.

    Example:
        >>> nearest("dropblok", ["dropout", "dropblock", "cutmix"])
        ['dropblock', 'dropout']
    """
    by_key = {choice.lower().replace("-", "_"): choice for choice in choices}
    key = name.lower().replace("-", "_")
    return [by_key[match] for match in difflib.get_close_matches(key, by_key, n=count, cutoff=0.55)]


def unknown(
    kind: str, name: str, choices: Iterable[str], *, listing: str | None = None, where: str | None = None
) -> UserError:
    """Build the one message for an unknown name: what, the nearest valid names, the command that lists them.

    Args:
        kind: What the name should have been (``"regularizer"``).
        name: What was written.
        choices: The valid names.
        listing: The command that lists them.
        where: The place it was read from.

    Example:
        >>> print(unknown("model", "resnet9", ["resnet8", "unet"], listing="regathlon list models"))
        There is no model 'resnet9'. Did you mean 'resnet8'? (All of them: regathlon list models)
    """
    choices = sorted(choices)
    near = nearest(name, choices)
    if near:
        hint = f" Did you mean {' or '.join(repr(choice) for choice in near)}?"
    elif choices:
        shown = ", ".join(repr(choice) for choice in choices[:12])
        hint = f" Valid: {shown}{', ...' if len(choices) > 12 else ''}."
    else:
        hint = ""
    listed = f" (All of them: {listing})" if listing else ""
    return UserError(f"There is no {kind} {name!r}.{hint}{listed}", where=where)
