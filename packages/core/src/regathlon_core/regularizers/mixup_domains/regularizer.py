"""Mixup of a step's domains."""

from __future__ import annotations

import torch
from torch import nn

from regathlon_core.regularizer import Regularizer
from regathlon_core.regularizers.mixup_domains.functional import sample_mixup_domains
from regathlon_core.regularizers.mixup_domains.settings import MixupDomainsSettings
from regathlon_core.task import Batch, Mixed, Task


class MixupDomains(Regularizer[MixupDomainsSettings]):
    """Average training samples and their labels with samples of another domain.

    See ``sample_mixup_domains`` for who is averaged with whom. A mixed sample counts to its own domain.

    Source: Yan, Song, Li, Zou, Ren: Improve Unsupervised Domain Adaptation with Mixup Training, 2020, arXiv:2001.00677, as
    DomainBed has it for several domains, https://github.com/facebookresearch/DomainBed.

    Deviation: an epoch's pairs cover every sample as the own one, where DomainBed cuts the larger of two minibatches.

    Example:
        >>> MixupDomains(alpha=1.0)
        MixupDomains(mixup_domains(alpha=1.0))
    """

    Settings = MixupDomainsSettings

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Return the mixed batch."""
        if self.settings.alpha == 0:
            return batch
        domain = torch.zeros_like(batch.targets) if batch.domain is None else batch.domain
        partner, weight = sample_mixup_domains(domain, self.settings.alpha, generator=generator)
        x = batch.inputs
        wide = x if x.dtype == torch.float64 else x.float()
        share = weight.to(wide.dtype).reshape(-1, *[1] * (x.ndim - 1))
        mixed = torch.lerp(wide[partner], wide, share).to(x.dtype)
        return batch.replace(inputs=mixed, mixed=Mixed(batch.targets[partner], weight))
