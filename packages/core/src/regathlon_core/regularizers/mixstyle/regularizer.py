"""MixStyle attached to a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from regathlon_core.features import FeaturePoint
from regathlon_core.ops.sampling import sample_beta, sample_uniform
from regathlon_core.regularizer import FeatureRegularizer
from regathlon_core.regularizers.mixstyle.functional import mixstyle, sample_partners
from regathlon_core.regularizers.mixstyle.settings import MixStyleSettings
from regathlon_core.task import Batch, Task


class MixStyle(FeatureRegularizer[MixStyleSettings]):
    """Mix the mean and deviation of samples' channels. See ``regathlon_core.functional.mixstyle``.

    As a layer of one's own, and in passes on other samples than the batch's, partners come from the whole batch.

    Deviation: partners from other domains are drawn for every sample; the reference code swaps the halves of a batch
    that holds two domains one after the other.

    Example:
        >>> MixStyle(p=1.0)(torch.randn(4, 3, 5, 5)).shape
        torch.Size([4, 3, 5, 5])
    """

    Settings = MixStyleSettings

    _domain: Tensor | None = None

    def usual(self, points: Sequence[FeaturePoint]) -> Sequence[FeaturePoint]:
        """Return the earlier half of the task's default places: later ones hold more of the class than of the style."""
        return points[: (len(points) + 1) // 2]

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Remember the domains of the batch, which stays as it is."""
        self._domain = batch.domain if self.settings.mix == "crossdomain" else None
        return super().transform(model, batch, task, generator)

    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        """Mix, or do not, by the toss of a coin."""
        settings = self.settings
        if settings.p == 0 or len(x) < 2:
            return x
        if settings.p < 1 and bool(sample_uniform((), generator=generator, device=x.device) >= settings.p):
            return x
        domain = self._domain if self._domain is not None and len(self._domain) == len(x) else None
        weight = sample_beta(settings.alpha, settings.alpha, (len(x),), generator=generator, device=x.device)
        partner = sample_partners(len(x), domain=domain, generator=generator, device=x.device)
        return mixstyle(x, partner, weight, present=self.present)

    def detach(self) -> None:
        """Remove the hooks and forget the domains."""
        super().detach()
        self._domain = None
