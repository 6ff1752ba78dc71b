"""What every operation asks of the clouds that it is given."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.errors import UserError


def check_cloud(operation: str, x: Tensor) -> None:
    """Refuse what is no batch of clouds.

    Raises:
        UserError: Not floating, not [B, N, C], or without points or channels.
    """
    if not x.is_floating_point():
        raise UserError(f"{operation}: points are floating-point numbers, not {x.dtype}.")
    if x.dim() != 3 or not x.numel():
        raise UserError(f"{operation}: clouds are [B, N, C], none of them 0, not {tuple(x.shape)}.")


def check_same_space(operation: str, x: Tensor, centers: Tensor) -> None:
    """Refuse centres that do not belong to the clouds.

    Raises:
        UserError: Other batch size, number of channels or device.
    """
    fits = centers.dim() == 3 and centers.shape[::2] == x.shape[::2] and centers.device == x.device
    if not (fits and centers.is_floating_point()):
        raise UserError(
            f"{operation}: centres are [B, M, C] like the clouds {tuple(x.shape)} on {x.device}, not "
            f"{tuple(centers.shape)} of {centers.dtype} on {centers.device}."
        )


def channels_first(x: Tensor) -> Tensor:
    """Return [B, C, N] in double precision, where the device has that."""
    return x.detach().mT.to(torch.float32 if x.device.type == "mps" else torch.float64).contiguous()
