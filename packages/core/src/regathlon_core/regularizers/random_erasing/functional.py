"""Random Erasing as pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regathlon_core.errors import UserError
from regathlon_core.ops.boxes import box_mask, sample_box_sides
from regathlon_core.ops.sampling import sample_bernoulli, sample_uniform


def sample_random_erasing(
    size: Sequence[int],
    *,
    p: float = 0.5,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
    log_aspect: bool = False,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw the rectangles to erase, one per input or none.

    Args:
        size: Shape of the inputs, (B, C, *spatial).
        p: Probability that an input is erased.
        area: Smallest and largest share of the input.
        aspect: Smallest and largest height over width.
        log_aspect: Whether aspects are uniform in the logarithm.
        generator: Source of randomness; None for torch's global one.
        device: Where the result lies.

    Returns:
        bool [B, 1, *spatial], True where erased.
    """
    batch, _, *spatial = size
    side, fits = sample_box_sides(
        batch, spatial, area=area, aspect=aspect, log_aspect=log_aspect, generator=generator, device=device
    )
    extent = torch.tensor(spatial, device=side.device)
    place = sample_uniform((batch, len(spatial)), generator=generator, device=device)
    start = torch.minimum((place * (extent - side + 1)).floor(), extent - side)
    chosen = sample_bernoulli((batch, 1), p, generator=generator, device=device)
    erase = chosen & fits[:, None]
    return box_mask(start, torch.where(erase, start + side, start), spatial)


def random_erasing(
    x: Tensor,
    *,
    p: float = 0.5,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
    log_aspect: bool = False,
    fill: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Blank a rectangle of random area, aspect and place, wholly inside, in a share ``p`` of the inputs.

    Zhong et al. (2020), algorithm 1, with the order of draws of the reference code
    https://github.com/zhunzhong07/Random-Erasing: area and aspect until the rectangle fits (100 tries at
    most), then its place. Deviations: (1) the fill is a constant, the paper's best variant writes noise; (2)
    a side as long as the input's is allowed, so that thin inputs can be erased too.

    Args:
        x: [B, C, *spatial]; a span in one dimension, a box in three.
        p: Probability that an input is erased, in [0, 1].
        area: Smallest and largest share of the input.
        aspect: Smallest and largest height over width.
        log_aspect: Whether aspects are uniform in the logarithm.
        fill: Value written.
        generator: Source of randomness; None for torch's global one.

    Returns:
        A copy of ``x`` with rectangles blanked; ``x`` itself where ``p`` is 0.

    Raises:
        UserError: ``p`` is no probability.

    Example:
        >>> y = random_erasing(torch.ones(2, 3, 8, 8), p=1.0, generator=torch.Generator().manual_seed(0))
        >>> (y == 0).any(dim=(1, 2, 3)).tolist()
        [True, True]
    """
    if not 0 <= p <= 1:
        raise UserError(f"p must be a probability in [0, 1], not {p}.")
    if p == 0:
        return x
    where = sample_random_erasing(
        x.shape, p=p, area=area, aspect=aspect, log_aspect=log_aspect, generator=generator, device=x.device
    )
    return x.masked_fill(where, fill)
