"""Which features of which samples Representation Self-Challenging mutes."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.errors import UserError


def rsc_positions(x: Tensor, grads: Tensor, p: float, *, present: Tensor | None = None) -> Tensor:
    """Return the positions of each sample's map that its true class leans on most.

    A position's score is the sum over channels of its features times the channels' mean gradients, as in the
    code of Huang et al.: Self-Challenging Improves Cross-Domain Generalization, ECCV 2020, arXiv:2007.02454,
    https://github.com/DeLightCMU/RSC. The ceil(p·positions) highest are chosen, fewer among equals, never all.

    Args:
        x: Features [B, C, *spatial].
        grads: Gradients of each sample's true-class logit with respect to them, alike.
        p: Share of the positions, in [0, 1).
        present: Which positions are there, bool [B, N], where samples differ in size; None for all.

    Returns:
        bool [B, 1, *spatial], True where to mute.

    Example:
        >>> x = torch.tensor([[[1.0, 2.0, 3.0]]])
        >>> rsc_positions(x, torch.ones_like(x), 1 / 3)
        tensor([[[False, False,  True]]])
    """
    mean = _channel_means(grads, present)
    scores = torch.einsum("bcn,bc->bn", _wide(x).flatten(2), mean)
    return _highest(scores, p, present).reshape(len(x), 1, *x.shape[2:])


def rsc_channels(grads: Tensor, p: float, *, present: Tensor | None = None) -> Tensor:
    """Return the channels whose mean gradients are highest, ceil(p·channels) of each sample.

    Args:
        grads: As in ``rsc_positions``.
        p: Share of the channels, in [0, 1).
        present: As in ``rsc_positions``.

    Returns:
        bool [B, C, *1], True where to mute.
    """
    chosen = _highest(_channel_means(grads, present), p)
    return chosen.reshape(*grads.shape[:2], *[1] * (grads.ndim - 2))


def rsc_pooled(grads: Tensor, p: float) -> Tensor:
    """Return the channels whose gradients reach the (1-p) quantile: DomainBed's form, on pooled features.

    The gradient of a globally averaged feature is the sum over its map, and muting it mutes the map, so that
    the pooling need not be found in the model. Gulrajani & Lopez-Paz, https://github.com/facebookresearch/DomainBed.

    Args:
        grads: Gradients of each sample's true-class logit, [B, C, *spatial].
        p: Share of the channels, in [0, 1).

    Returns:
        bool [B, C, *1], True where to mute.

    Raises:
        UserError: ``p`` is out of its range.
    """
    _check(p)
    pooled = _wide(grads).flatten(2).sum(2)
    chosen = pooled >= torch.quantile(pooled, 1 - p, dim=1, keepdim=True)
    return (chosen if p > 0 else torch.zeros_like(chosen)).reshape(*grads.shape[:2], *[1] * (grads.ndim - 2))


def rsc_samples(before: Tensor, after: Tensor, p: float, *, variant: str = "map") -> Tensor:
    """Return the samples whose true class loses most probability by muting.

    Args:
        before: Probabilities of the true classes, [B].
        after: The same with muted features.
        p: Share of the samples, in [0, 1].
        variant: ``"map"``: round(p·B) samples that lose at least 1e-4, fewer among equals (the authors);
            ``"pooled"``: those whose loss reaches the (1-p) quantile (DomainBed).

    Returns:
        bool [B], True where to mute.

    Example:
        >>> rsc_samples(torch.tensor([0.9, 0.9, 0.9]), torch.tensor([0.1, 0.8, 0.5]), 1 / 3)
        tensor([ True, False, False])
    """
    loss = _wide(before) - _wide(after)
    if p == 0:
        return torch.zeros_like(loss, dtype=torch.bool)
    if variant == "pooled":
        return loss >= torch.quantile(loss, 1 - p)
    loss = (loss - 1e-4).clamp(min=0)
    count = round(len(loss) * p)
    threshold = loss.sort(descending=True).values[count] if count < len(loss) else loss.new_zeros(())
    return loss > threshold


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _check(p: float) -> None:
    if not 0 <= p < 1:
        raise UserError(f"The share to mute must be a number of at least 0 and below 1, not {p}.")


def _channel_means(grads: Tensor, present: Tensor | None) -> Tensor:
    grads = _wide(grads).flatten(2)
    if present is None:
        return grads.mean(2)
    here = present[:, None].to(grads.dtype)
    return (grads * here).sum(2) / here.sum(2).clamp(min=1)


def _highest(scores: Tensor, p: float, present: Tensor | None = None) -> Tensor:
    """Return which of each row's entries are above the one that follows the ceil(p·n) highest."""
    _check(p)
    if present is None:
        present = torch.ones_like(scores, dtype=torch.bool)
    scores = scores.masked_fill(~present, -torch.inf)
    sizes = present.sum(1, keepdim=True)
    # Less a rounding error: 0.1 * 30 is a little more than 3.
    counts = torch.ceil(sizes.double() * p - 1e-9).long().minimum(sizes - 1).clamp(min=0)
    return scores > scores.sort(dim=1, descending=True).values.gather(1, counts)
