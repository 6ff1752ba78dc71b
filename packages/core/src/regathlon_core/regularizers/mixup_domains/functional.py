"""Which samples of other domains the samples of a batch are mixed with."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.ops.sampling import sample_beta, sample_permutation


def sample_mixup_domains(
    domain: Tensor, alpha: float, *, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draw a partner from another domain for every sample, and the weight of the own sample.

    The domains stand in a circle, in random order; a domain's samples are paired with those of the next one, in random
    order, and share one weight: DomainBed's pairs of minibatches. Where the next domain has fewer samples, they are taken
    again. A single domain is mixed with itself.

    Args:
        domain: Of each sample, int64 [B].
        alpha: Both shapes of the Beta distribution, above 0.
        generator: Source of randomness; None for torch's global one.

    Returns:
        Partners, int64 [B], and weights, float32 [B] in [0, 1].

    Example:
        >>> domain = torch.tensor([0, 0, 1, 1, 2, 2])
        >>> partner, weight = sample_mixup_domains(domain, 0.2)
        >>> bool((domain[partner] != domain).all()), weight.shape
        (True, torch.Size([6]))
    """
    device = domain.device
    numbers: list[int] = sorted(set(domain.tolist()))
    circle = [
        numbers[at] for at in sample_permutation(len(numbers), generator=generator, device=device).tolist()
    ]
    partner = torch.empty_like(domain)
    weight = torch.empty(len(domain), device=device)
    for own, other in zip(circle, circle[1:] + circle[:1], strict=True):
        places = torch.nonzero(domain == own).flatten()
        others = torch.nonzero(domain == other).flatten()
        others = others[sample_permutation(len(others), generator=generator, device=device)]
        partner[places] = others[torch.arange(len(places), device=device) % len(others)]
        weight[places] = sample_beta(alpha, alpha, generator=generator, device=device)
    return partner, weight
