"""SpatialDropout as pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from regathlon_core.errors import unknown
from regathlon_core.ops.drop import drop_units, expected_scale
from regathlon_core.ops.sampling import sample_bernoulli


def sample_spatial_dropout(
    size: Sequence[int],
    p: float,
    *,
    mode: Literal["channel", "position"] = "channel",
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw which channels or positions to drop.

    Args:
        size: Shape of the features, (B, C, *spatial).
        p: Probability that a channel (or position) is dropped.
        mode: What is dropped as a whole.
        generator: Source of randomness; None for torch's global one.
        device: Where the result lies.

    Returns:
        bool, True where dropped: [B, C, 1, ...] for channels, [B, 1, *spatial] for positions.

    Raises:
        UserError: There is no such mode.
    """
    if mode not in ("channel", "position"):
        raise unknown("mode of spatial dropout", mode, ("channel", "position"))
    batch, channels, *spatial = size
    shape = (batch, channels, *[1] * len(spatial)) if mode == "channel" else (batch, 1, *spatial)
    return sample_bernoulli(shape, p, generator=generator, device=device)


def spatial_dropout(
    x: Tensor,
    p: float = 0.1,
    *,
    mode: Literal["channel", "position"] = "channel",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Drop whole channels, or whole positions, with probability ``p`` and divide the others by 1-p.

    Tompson et al. (2015), section 3.2: neighbouring positions of a channel carry the same information, so
    dropping them one by one hides nothing. ``mode="position"`` is the reading of the DropGraph paper (Ke et
    al., 2021), "the feature vectors across all channels"; it is DropBlock with shared channels, block size 1
    and a fixed scale.

    Args:
        x: [B, C, *spatial], any floating dtype.
        p: Probability that a channel (or position) is dropped, in [0, 1].
        mode: What is dropped as a whole.
        generator: Source of randomness; None for torch's global one.

    Returns:
        Like ``x``; ``x`` itself where ``p`` is 0.

    Raises:
        UserError: An argument is out of its range.

    Example:
        >>> y = spatial_dropout(torch.ones(4, 8, 5, 5), 0.5, generator=torch.Generator().manual_seed(0))
        >>> bool((y.flatten(2) == y[:, :, :1, 0]).all())
        True
    """
    scale = expected_scale(p)
    if p == 0:
        return x
    dropped = sample_spatial_dropout(x.shape, p, mode=mode, generator=generator, device=x.device)
    return drop_units(x, dropped, scale)
