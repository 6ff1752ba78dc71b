"""Stochastic depth as a layer, or attached to a model."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.branches import BranchRegularizer
from regathlon_core.regularizers.stochastic_depth.functional import stochastic_depth
from regathlon_core.regularizers.stochastic_depth.settings import StochasticDepthSettings


class StochasticDepth(BranchRegularizer[StochasticDepthSettings]):
    """Drop residual branches for a whole batch, in training only. See ``regathlon_core.functional.stochastic_depth``.

    Attached, it acts on every residual block of the model, later ones more often. A dropped branch is computed all
    the same and weighs nothing: batch-norm's statistics move as in plain training, and its parameters get zero
    gradients.

    Source: Huang, Sun, Liu, Sedra, Weinberger: Deep Networks with Stochastic Depth, ECCV 2016, arXiv:1603.09382,
    equations 2 to 5. The authors' code: https://github.com/yueatsprograms/Stochastic_Depth.

    Example:
        >>> layer = StochasticDepth(p=0.5)
        >>> branch = torch.ones(2, 4, 8, 8)
        >>> float(layer(branch).mean()) in (0.0, 2.0), layer.eval()(branch) is branch
        (True, True)
    """

    Settings = StochasticDepthSettings

    def act(self, branch: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
        """Return the branch, dropped or scaled up."""
        return stochastic_depth(branch, p, generator=generator)
