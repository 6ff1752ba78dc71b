"""How good an explanation is."""

from __future__ import annotations

import torch
from torch import Tensor

from regathlon_core.errors import UserError


def relevance_rank_accuracy(relevance: Tensor, mask: Tensor) -> Tensor:
    """Return which share of the most relevant positions lies inside a ground-truth mask, per sample.

    RRA = |top-n positions by relevance ∩ mask| / n, where n is the number of positions in the sample's mask.

    Args:
        relevance: [B, *positions]; sum channels up before. Ties go to the earlier position.
        mask: True where the object is, bool [B, *positions]; from a box or a segmentation.

    Returns:
        float32 [B] in [0, 1]; NaN for a sample whose mask is empty.

    Raises:
        UserError: The shapes differ.

    Example:
        >>> import torch
        >>> from regathlon_core.attribution import relevance_rank_accuracy
        >>> relevance = torch.tensor([[[5.0, 4.0], [1.0, 0.0]]])
        >>> relevance_rank_accuracy(relevance, torch.tensor([[[True, False], [True, False]]]))
        tensor([0.5000])

    Source: Arras, Osman and Samek, "CLEVR-XAI: a benchmark dataset for the ground truth evaluation of neural
    network explanations", Information Fusion 2022, eq. 2.
    """
    if relevance.shape != mask.shape:
        raise UserError(
            f"Relevance is {tuple(relevance.shape)}, the mask {tuple(mask.shape)}; they must agree."
        )
    inside = mask.flatten(1).bool()
    order = relevance.flatten(1).argsort(dim=1, descending=True, stable=True)
    size = inside.sum(1, keepdim=True)
    top = torch.arange(inside.shape[1], device=inside.device) < size
    hits = (inside.gather(1, order) & top).sum(1)
    return hits.float() / size.squeeze(1)
