"""DropBlock as a layer, or attached to a model."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.regularizer import FeatureRegularizer
from regathlon_core.regularizers.dropblock.functional import drop_block
from regathlon_core.regularizers.dropblock.settings import DropBlockSettings


class DropBlock(FeatureRegularizer[DropBlockSettings]):
    """Drop contiguous blocks of feature maps, in training only. See ``regathlon_core.functional.drop_block``.

    Attached, the share of dropped units rises linearly over the training unless ``schedule="constant"``. In a
    layer of one's own it is constant: call ``after_step(progress)`` to move it on.

    Example:
        >>> layer = DropBlock(p=0.1, block_size=3)
        >>> x = torch.ones(2, 4, 8, 8)
        >>> layer(x).shape, layer.eval()(x) is x
        (torch.Size([2, 4, 8, 8]), True)
    """

    Settings = DropBlockSettings

    def schedule(self, progress: float) -> float:
        """Return the share of the full rate."""
        return progress if self.settings.schedule == "linear" else 1.0

    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        """Return the features with blocks dropped."""
        settings = self.settings
        if settings.p == 0:
            return x
        p = (
            settings.p * self.rate(place) * self.strength
        )  # on its device: reading it back would wait for an accelerator
        return drop_block(x, p, settings.block_size, per_channel=settings.per_channel, generator=generator)
