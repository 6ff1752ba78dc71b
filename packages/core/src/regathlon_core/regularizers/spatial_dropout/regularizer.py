"""SpatialDropout as a layer, or attached to a model."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.features import Grouping
from regathlon_core.regularizer import FeatureRegularizer
from regathlon_core.regularizers.spatial_dropout.functional import spatial_dropout
from regathlon_core.regularizers.spatial_dropout.settings import SpatialDropoutSettings


class SpatialDropout(FeatureRegularizer[SpatialDropoutSettings]):
    """Drop whole channels or positions, in training only. See ``regathlon_core.functional.spatial_dropout``.

    Example:
        >>> layer = SpatialDropout(p=0.2, mode="position")
        >>> x = torch.ones(2, 4, 8, 8)
        >>> layer(x).shape, layer.eval()(x) is x
        (torch.Size([2, 4, 8, 8]), True)
    """

    Settings = SpatialDropoutSettings

    def grouping(self) -> Grouping:
        """Positions are dropped one by one, channels sample by sample."""
        return "node" if self.settings.mode == "position" else "size"

    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        """Return the features with channels or positions dropped."""
        return spatial_dropout(x, self.settings.p, mode=self.settings.mode, generator=generator)
