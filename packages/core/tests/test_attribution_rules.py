"""Every rule on every kind of layer, against the papers' formulas written out with its full matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from regathlon_core import UserError
from regathlon_core.attribution import (
    AlphaBeta,
    Composite,
    Epsilon,
    Flat,
    Gamma,
    Rule,
    WSquare,
    ZPlus,
    lrp,
)

LAYERS = {
    "linear": (lambda: nn.Linear(6, 5), (6,)),
    "linear on tokens": (lambda: nn.Linear(4, 3), (5, 4)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (4, 7)),
    "conv2d": (lambda: nn.Conv2d(3, 4, 3, padding=1), (3, 5, 4)),
    "conv2d no bias": (lambda: nn.Conv2d(3, 4, 2, stride=2, bias=False), (3, 5, 4)),
    "conv2d dilated": (lambda: nn.Conv2d(2, 3, 3, padding=2, dilation=2), (2, 5, 5)),
    "conv2d same, even kernel": (lambda: nn.Conv2d(2, 3, (2, 4), padding="same"), (2, 5, 5)),
    "conv2d valid": (lambda: nn.Conv2d(2, 3, 2, padding="valid"), (2, 4, 4)),
    "conv2d reflect": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 4, 4)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4), (4, 4, 4)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), (2, 3, 4, 3)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), (4, 3, 3)),
    "transposed grouped": (lambda: nn.ConvTranspose1d(4, 6, 2, stride=2, groups=2), (4, 4)),
}
NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def randomise(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """Draw parameters and running statistics, scales of both signs among them."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point():
            tensor.data = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        if name.endswith("running_var"):
            tensor.data = tensor.data.square() + 0.5
    return model.double()


def positive(x: Tensor) -> Tensor:
    return x * (x > 0)


def negative(x: Tensor) -> Tensor:
    return x * (x < 0)


def divided(shares: Tensor, r: Tensor) -> Tensor:
    """Give every output's relevance [J] to inputs [I] by shares [J, I]: Σ_j s_ij / Σ_i s_ij R_j."""
    total = shares.sum(1, keepdim=True)
    return (torch.where(total == 0, 0, shares / total) * r[:, None]).sum(0)


def expected(rule: Rule, w: Tensor, x: Tensor, bias: Tensor, r: Tensor) -> Tensor:
    """Write a rule's formula out for one sample: w [J, I], x [I], bias [J], r [J]; tiny stabilisers aside."""
    c = w * x
    match rule:
        case Epsilon(bias="absorb"):
            z = c.sum(1) + bias
            sign = 1 - 2 * (z < 0).double()
            return (c / (z + rule.epsilon * sign)[:, None] * r[:, None]).sum(0)
        case Epsilon(bias="spread"):
            size = torch.where(c.abs().sum(1, keepdim=True) == 0, w.abs(), c.abs())
            return divided(c + bias[:, None] * size / size.sum(1, keepdim=True), r)
        case Epsilon():
            return divided(c, r)
        case ZPlus(bias=True):
            with_bias = torch.cat((positive(c), positive(bias)[:, None]), 1)
            return divided(with_bias, r)[:-1]
        case ZPlus(epsilon=None):  # outputs without positive contributions go by the next thing there is
            shares = torch.zeros_like(c)
            for fallback in (positive(c), c.abs(), positive(w), w.abs()):
                shares = torch.where(shares.sum(1, keepdim=True) == 0, fallback, shares)
            return divided(shares, r)
        case ZPlus():
            return divided(positive(c), r)
        case AlphaBeta():
            return rule.alpha * divided(positive(c), r) - rule.beta * divided(negative(c), r)
        case Gamma():
            favoured = torch.where(c.sum(1, keepdim=True) >= 0, positive(c), negative(c))
            return divided(c + rule.gamma * favoured, r)
        case Flat():
            return divided((w != 0).double(), r)  # a random weight is zero only where there is none
        case WSquare():
            return divided(w.square(), r)
    raise AssertionError(rule)


RULES = [
    Epsilon(),
    Epsilon(0.1, bias="absorb"),
    Epsilon(bias="spread"),
    ZPlus(),
    ZPlus(1e-12),
    ZPlus(1e-12, bias=True),
    AlphaBeta(2.0, 1.0),
    AlphaBeta(1.0, 0.0),
    Gamma(0.25),
    Flat(),
    WSquare(),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("after_relu", [False, True], ids=["signed", "after ReLU"])
@pytest.mark.parametrize("norm", [False, True], ids=["plain", "batch-norm"])
@pytest.mark.parametrize("layer", LAYERS)
def test_rules_follow_their_formulas(layer: str, norm: bool, after_relu: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    build, shape = LAYERS[layer]
    parts: list[nn.Module] = [nn.ReLU()] if after_relu else []
    parts.append(build())
    linear = parts[-1]
    x = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    if norm:
        if layer == "linear on tokens":
            pytest.skip("its channels are last, where batch-norm does not act")
        parts.append(NORMS[x.dim()](getattr(linear, "out_channels", None) or linear.out_features))
    model = randomise(nn.Sequential(*parts, nn.Flatten()), generator).eval()

    def affine(row: Tensor) -> Tensor:
        flat: Tensor = nn.Sequential(*model[int(after_relu) :])(row.reshape(1, *shape))
        return flat[0]

    zero = torch.zeros(shape, dtype=torch.float64).flatten()
    w = torch.autograd.functional.jacobian(affine, zero)
    bias = affine(zero).detach()
    r = torch.rand(2, len(bias), generator=generator, dtype=torch.float64)
    for rule in RULES:
        if "reflect" in layer and not (isinstance(rule, Epsilon) and rule.bias != "spread"):
            continue  # the matrix adds up a pixel's copies, which the rules see one by one
        composite = Composite(linear=rule, convolution=rule)
        relevance = lrp(model, x, r, composite)
        a = x.clamp(min=0) if after_relu else x
        wanted = torch.stack([expected(rule, w, a[i].flatten(), bias, r[i]) for i in range(2)])
        torch.testing.assert_close(
            relevance.flatten(1), wanted, rtol=1e-8, atol=1e-9, msg=lambda text, rule=rule: f"{rule}: {text}"
        )


@pytest.mark.parametrize("rule", [Epsilon(), ZPlus(), AlphaBeta(), Gamma(), Flat(), WSquare()], ids=str)
def test_rules_conserve(rule: Rule) -> None:
    generator = torch.Generator().manual_seed(1)
    model = randomise(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()), generator)
    x = torch.randn(3, 3, 6, 6, generator=generator, dtype=torch.float64)
    r = torch.rand(3, 64, generator=generator, dtype=torch.float64)
    relevance = lrp(model, x, r, Composite(convolution=rule))
    torch.testing.assert_close(relevance.sum((1, 2, 3)), r.sum(1), rtol=1e-9, atol=0)


def test_gamma_lies_between_epsilon_and_zplus() -> None:
    generator = torch.Generator().manual_seed(2)
    model = randomise(nn.Sequential(nn.ReLU(), nn.Linear(8, 3, bias=False)), generator)
    # Only outputs with z > 0 are compared: for others a large gamma favours negative contributions.
    x = torch.rand(4, 8, generator=generator, dtype=torch.float64)
    r = (model(x).detach() > 0).double()
    zero, large = (lrp(model, x, r, Composite(linear=Gamma(gamma))) for gamma in (0.0, 1e9))
    torch.testing.assert_close(zero, lrp(model, x, r, "epsilon"))
    torch.testing.assert_close(large, lrp(model, x, r, Composite(linear=ZPlus())))


def test_parameters_of_rules_are_checked() -> None:
    with pytest.raises(UserError, match="alpha - beta must be 1"):
        AlphaBeta(2.0, 0.5)
    with pytest.raises(UserError, match="gamma must be at least 0"):
        Gamma(-1.0)


def test_layers_by_name_come_first() -> None:
    generator = torch.Generator().manual_seed(3)
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 3)), nn.ReLU(), nn.Linear(3, 2)).double()
    x = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    named = Composite(first=Epsilon(), layers=(("0.*", Flat()), ("2", ZPlus())))
    wanted = Composite(linear=ZPlus(), first=Flat())
    assert torch.equal(lrp(model, x, 1, named), lrp(model, x, 1, wanted))


def test_stabiliser_scales_with_the_type() -> None:
    model = nn.Linear(2, 1, bias=False)
    nn.init.ones_(model.weight)
    x = torch.tensor([[2e-6, 0.0]])
    assert float(lrp(model, x, 0, "epsilon").sum()) == pytest.approx(2 / 3, rel=1e-4)
    assert float(lrp(model.double(), x.double(), 0, "epsilon").sum()) == pytest.approx(1, rel=1e-8)
