"""DropPath as a layer, or attached to a model."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.branches import BranchRegularizer
from regathlon_core.regularizers.drop_path.functional import drop_path
from regathlon_core.regularizers.drop_path.settings import DropPathSettings


class DropPath(BranchRegularizer[DropPathSettings]):
    """Drop residual branches for single samples, in training only. See ``regathlon_core.functional.drop_path``.

    Attached, it acts on every residual block of the model, later ones more often; in a transformer's block on
    attention and MLP separately.

    Source: Larsson, Maire, Shakhnarovich: FractalNet: Ultra-Deep Neural Networks without Residuals, ICLR 2017,
    arXiv:1605.07648, section 3.1; with the depth rule of stochastic depth (arXiv:1603.09382, equation 4). Reference
    code: https://github.com/huggingface/pytorch-image-models, ``timm/layers/drop.py``.

    Deviations: (1) FractalNet joins its paths by a mean and keeps at least one of them; here the shortcut is always
    kept; (2) the linear rule gives the first of L blocks p/L (Huang et al.), not 0 (timm).

    Example:
        >>> layer = DropPath(p=0.5)
        >>> branch = torch.ones(2, 4, 8, 8)
        >>> set(layer(branch).mean((1, 2, 3)).tolist()) <= {0.0, 2.0}, layer.eval()(branch) is branch
        (True, True)
    """

    Settings = DropPathSettings

    def act(self, branch: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
        """Return the branch, dropped for some samples and scaled up for the others."""
        return drop_path(branch, p, generator=generator)
