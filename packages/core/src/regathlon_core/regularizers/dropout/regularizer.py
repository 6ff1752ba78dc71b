"""Dropout as a layer, or attached to a model."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.features import Grouping
from regathlon_core.regularizer import FeatureRegularizer
from regathlon_core.regularizers.dropout.functional import dropout
from regathlon_core.regularizers.dropout.settings import DropoutSettings


class Dropout(FeatureRegularizer[DropoutSettings]):
    """Drop single units, in training only. See ``regathlon_core.functional.dropout``.

    Example:
        >>> layer = Dropout(p=0.5)
        >>> x = torch.ones(2, 4, 8, 8)
        >>> sorted(set(layer(x).flatten().tolist())), layer.eval()(x) is x
        ([0.0, 2.0], True)
    """

    Settings = DropoutSettings

    def grouping(self) -> Grouping:
        """Units are dropped one by one."""
        return "node"

    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        """Return the features with units dropped."""
        return dropout(x, self.settings.p, generator=generator)
