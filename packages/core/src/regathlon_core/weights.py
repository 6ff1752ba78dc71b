"""Reading files of weights, and loading them into models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from regathlon_core.errors import UserError


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict, without unpickling code.

    A trial's checkpoint, or a file that keeps the state dict under ``"model"`` or ``"state_dict"``, works too; what
    ``DataParallel`` put before the names is taken off.

    Raises:
        UserError: The file is not there, or is no state dict.
    """
    where = str(path)
    if not path.is_file():
        raise UserError("The weights cannot be read: there is no such file.", where=where)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for files that are no checkpoints
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"The weights cannot be read: {reason}", where=where) from error
    for key in ("model", "state_dict"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError("The weights are no state dict.", where=where)
    return {str(key).removeprefix("module."): value for key, value in found.items()}


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], *, where: Path) -> None:
    """Load a state dict, which has to fit; only batch-norm's counts of batches may be missing.

    Args:
        model: What they are for.
        weights: By the model's names.
        where: The file they were read from, for messages.

    Raises:
        UserError: The names or the shapes are not those of the model.
    """
    wanted = model.state_dict()
    kept = dict(weights)
    for key, value in wanted.items():
        if key.endswith("num_batches_tracked"):
            kept.setdefault(key, value)
    odd = sorted(wanted.keys() ^ kept.keys())
    if odd:
        side = "lack" if odd[0] in wanted else "have, and the model has not,"
        raise UserError(f"The weights {side} {odd[0]!r} ({len(odd)} such names).", where=str(where))
    for key, value in wanted.items():
        if kept[key].shape != value.shape:
            shapes = f"{tuple(kept[key].shape)}, not {tuple(value.shape)}"
            raise UserError(
                f"{key!r} of the weights is {shapes}: they are another model's, or for another number of classes.",
                where=str(where),
            )
    model.load_state_dict(kept)
