"""Dropout: rate, scale, gradient."""

import math

import pytest
import torch

from regathlon_core import Dropout, UserError
from regathlon_core.functional import dropout
from regathlon_core.regularizers.dropout.functional import sample_dropout


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("p", [0.03, 0.3, 0.9])
def test_rate_and_scale(p: float) -> None:
    x = torch.ones(100, 30, 40)
    y = dropout(x, p, generator=seeded())
    zero = y == 0
    assert abs(float(zero.double().mean()) - p) <= 5 * math.sqrt(p * (1 - p) / x.numel())
    torch.testing.assert_close(y[~zero], torch.full_like(y[~zero], 1 / (1 - p)))


def test_it_applies_the_mask_it_samples() -> None:
    x = torch.randn(4, 5, 6, requires_grad=True)
    y = dropout(x, 0.4, generator=seeded(1))
    factor = (~sample_dropout(x.shape, 0.4, generator=seeded(1))).float() / 0.6
    torch.testing.assert_close(y, x * factor)
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad, factor)


def test_extremes() -> None:
    x = torch.full((3, 4), float("inf"))
    assert dropout(x, 0.0) is x
    assert not dropout(x, 1.0).any()
    with pytest.raises(UserError, match="probability"):
        dropout(x, -0.1)


def test_a_layer_draws_anew_each_time_and_is_the_identity_in_eval() -> None:
    layer, x = Dropout(p=0.5), torch.ones(1, 200)
    assert not torch.equal(layer(x), layer(x))
    assert layer.eval()(x) is x
