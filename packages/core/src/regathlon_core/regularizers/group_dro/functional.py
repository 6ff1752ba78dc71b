"""The exponentiated-gradient step of GroupDRO's weights."""

from __future__ import annotations

from torch import Tensor


def group_dro_step(log_weights: Tensor, losses: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """Return the groups' new weights, each multiplied by exp(eta·loss) and normalised.

    Sagawa, Koh, Hashimoto, Liang: Distributionally Robust Neural Networks for Group Shifts, ICLR 2020, arXiv:1911.08731,
    Algorithm 1; reference code https://github.com/kohpangwei/group_DRO. Kept as logarithms, they neither
    overflow nor vanish.

    Args:
        log_weights: Logarithms of the weights, up to a common constant, [G].
        losses: Mean loss of each group, [G].
        eta: Step size.

    Returns:
        The new logarithms, and the weights that they stand for, which sum to 1.

    Example:
        >>> import torch
        >>> group_dro_step(torch.zeros(2), torch.tensor([1.0, 1.0]), eta=0.1)[1]
        tensor([0.5000, 0.5000])
    """
    log_weights = log_weights + eta * losses.detach().to(log_weights.dtype)
    return log_weights, log_weights.softmax(0)
