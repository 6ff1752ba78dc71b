"""CutMix as pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regathlon_core.errors import UserError
from regathlon_core.ops.boxes import box_mask, centred_box
from regathlon_core.ops.sampling import sample_bernoulli, sample_beta, sample_permutation, sample_uniform
from regathlon_core.task import Mixed


def sample_cutmix(
    size: Sequence[int],
    *,
    p: float = 1.0,
    alpha: float = 1.0,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Draw partners and the box that comes from them, one box for the batch.

    Args:
        size: Shape of the inputs, (B, C, *spatial).
        p: Probability that the batch is mixed; else the box is empty.
        alpha: Both shapes of the Beta distribution of the kept share.
        generator: Source of randomness; None for torch's global one.
        device: Where the results lie.

    Returns:
        Partners, a permutation, int64 [B]; and the box, bool [1, 1, *spatial], True where the partner shows.
    """
    batch, _, *spatial = size
    partner = sample_permutation(batch, generator=generator, device=device)
    kept = sample_beta(alpha, alpha, generator=generator, device=device)
    side = (1 - kept) ** (1 / len(spatial)) * sample_bernoulli((), p, generator=generator, device=device)
    centre = sample_uniform((1, len(spatial)), generator=generator, device=device)
    start, stop = centred_box(centre, [(side * extent).floor() for extent in spatial], spatial)
    return partner, box_mask(start, stop, spatial)


def cutmix(
    x: Tensor,
    targets: Tensor,
    *,
    p: float = 1.0,
    alpha: float = 1.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Mixed | None]:
    """Replace a box of every sample by the same box of another, and as large a share of its label.

    Yun et al. (2019), equations 1 and 2; reference code https://github.com/clovaai/CutMix-PyTorch. The centre
    of the box is uniform and the box cut off at the border; the weight of the labels is the share of
    positions that are the sample's own after that. Deviation: boxes of odd side have that side, where the
    reference loses one to integer division.

    Args:
        x: [B, C, *spatial]; a span in one dimension, a box in three.
        targets: Class labels, int64 [B].
        p: Probability that the batch is mixed, in [0, 1].
        alpha: Both shapes of the Beta distribution, above 0.
        generator: Source of randomness; None for torch's global one.

    Returns:
        The mixed inputs, and the partners' labels with the weight of the own; ``x`` itself and None where
        ``p`` is 0.

    Raises:
        UserError: An argument is out of its range.

    Example:
        >>> x = torch.arange(4.0)[:, None, None, None].expand(4, 1, 6, 9)
        >>> y, mixed = cutmix(x, torch.arange(4), generator=torch.Generator().manual_seed(1))
        >>> others = mixed.targets != torch.arange(4)
        >>> torch.allclose((y == x)[others].float().mean(dim=(1, 2, 3)), mixed.weight[others])
        True
    """
    if not 0 <= p <= 1 or not alpha > 0:
        raise UserError(f"p must be a probability in [0, 1] and alpha above 0, not {p} and {alpha}.")
    if p == 0:
        return x, None
    partner, box = sample_cutmix(x.shape, p=p, alpha=alpha, generator=generator, device=x.device)
    weight = 1 - box.float().mean()
    return torch.where(box, x[partner], x), Mixed(targets[partner], weight.repeat(len(x)))
