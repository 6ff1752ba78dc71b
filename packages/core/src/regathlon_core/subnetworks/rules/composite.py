"""Calls that are made of others, and run as those."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from regathlon_core.subnetworks.interception import ALWAYS, RULES, Interception


def substitute(function: Any, body: Callable[..., Any]) -> None:
    """Run ``body`` in place of a function, each of its calls by its own rule."""

    def run_body(run: Interception, function: Any, *args: Any, **kwargs: Any) -> Any:
        with run:
            return body(*args, **kwargs)

    RULES[function] = run_body
    ALWAYS.add(function)


def _glu(input: Tensor, dim: int = -1) -> Tensor:
    value, gate = input.chunk(2, dim)
    return value * gate.sigmoid()


def _pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    r = upscale_factor
    *batch, channels, height, width = input.shape
    x = input.reshape(*batch, channels // r**2, r, r, height, width)
    d = len(batch)
    x = x.permute(*range(d), d, d + 3, d + 1, d + 4, d + 2)
    return x.reshape(*batch, channels // r**2, height * r, width * r)


def _pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    r = downscale_factor
    *batch, channels, height, width = input.shape
    x = input.reshape(*batch, channels, height // r, r, width // r, r)
    d = len(batch)
    x = x.permute(*range(d), d, d + 2, d + 4, d + 1, d + 3)
    return x.reshape(*batch, channels * r**2, height // r, width // r)


def _channel_shuffle(input: Tensor, groups: int) -> Tensor:
    batch, channels, *space = input.shape
    return (
        input.reshape(batch, groups, channels // groups, *space)
        .transpose(1, 2)
        .reshape(batch, channels, *space)
    )


def _hstack(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(tensors), 0 if tensors[0].dim() == 1 else 1)


def _vstack(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.unsqueeze(0) if tensor.dim() == 1 else tensor for tensor in tensors], 0)


substitute(F.glu, _glu)
substitute(F.pixel_shuffle, _pixel_shuffle)
substitute(F.pixel_unshuffle, _pixel_unshuffle)
substitute(torch.channel_shuffle, _channel_shuffle)
substitute(F.channel_shuffle, _channel_shuffle)
substitute(torch.hstack, _hstack)
substitute(torch.vstack, _vstack)
