"""ShakeDrop as a layer, or attached to a model."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.branches import BranchRegularizer
from regathlon_core.regularizers.shakedrop.functional import shakedrop
from regathlon_core.regularizers.shakedrop.settings import ShakeDropSettings


class ShakeDrop(BranchRegularizer[ShakeDropSettings]):
    """Shake residual branches, in training only. See ``regathlon_core.functional.shakedrop``.

    Attached, it acts on every residual block of the model, later ones more often. Branches should end in
    batch-norm: without it training did not converge in the paper.

    Source: Yamada, Iwamura, Akiba, Kise: ShakeDrop Regularization for Deep Residual Learning, IEEE Access 2019,
    arXiv:1802.02375, equation 6. Reference code: https://github.com/owruby/shake-drop_pytorch.

    Example:
        >>> layer = ShakeDrop(p=0.5)
        >>> branch = torch.ones(2, 4, 8, 8)
        >>> layer(branch).shape, layer.eval()(branch) is branch
        (torch.Size([2, 4, 8, 8]), True)
    """

    Settings = ShakeDropSettings

    def act(self, branch: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
        """Return the branch, shaken or as it is, and scaled up."""
        return shakedrop(branch, p, generator=generator)
