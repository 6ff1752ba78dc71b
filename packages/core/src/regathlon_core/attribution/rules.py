"""Relevance rules of linear layers.

With contributions c_ij = a_i w_ij of input i to output j and R_j the relevance of output j, every rule gives
input i the sum over j of its share of R_j. Shares of one output add up to 1 (but for the stabiliser), so
relevance is conserved. Batch-norm behind a layer is part of its w.

Biases get no relevance and stay out of the denominators unless a rule says otherwise.

Sources: Bach et al., "On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance
propagation", PLoS ONE 2015 (ε: eq. 58, αβ: eq. 60, flat: 62ff); Montavon et al., "Explaining nonlinear
classification decisions with deep Taylor decomposition", Pattern Recognition 2017 (z+: eq. 14, w²: eq. 12);
Montavon et al., "Layer-wise relevance propagation: an overview", 2019 (γ: table 10.1); Andéol et al.,
"Learning domain invariant representations by joint Wasserstein distance minimization", 2021 (γ for signed
inputs, app. A).
"""

from __future__ import annotations

import abc
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from regathlon_core.attribution.layers import Layer
from regathlon_core.errors import UserError


def stabiliser(dtype: torch.dtype, epsilon: float | None) -> float:
    """Return the number that keeps denominators off zero.

    The default is the customary 1e-6 in float32 and as much smaller in float64 as its rounding errors are:
    what the stabiliser takes is lost to conservation, and it is there to keep rounding errors from being
    blown up.
    """
    if epsilon is not None:
        return epsilon
    return 1e-6 * torch.finfo(dtype).eps / torch.finfo(torch.float32).eps


def stabilised(z: Tensor, epsilon: float | None, *, nonnegative: bool = False) -> Tensor:
    """Return z moved away from zero by the stabiliser, zero itself upwards."""
    return _move_from_zero(z.clone(), epsilon, nonnegative=nonnegative)


def quotient(r: Tensor, z: Tensor, epsilon: float | None, *, nonnegative: bool = False) -> Tensor:
    """Return r / stabilised(z); z is overwritten."""
    return torch.div(r, _move_from_zero(z, epsilon, nonnegative=nonnegative), out=z)


def _move_from_zero(z: Tensor, epsilon: float | None, *, nonnegative: bool) -> Tensor:
    size = stabiliser(z.dtype, epsilon)
    if nonnegative:
        return z.add_(size)
    return z.add_(torch.copysign(torch.full((), size, dtype=z.dtype, device=z.device), z))


class Rule(abc.ABC):
    """How the relevance of a linear layer's outputs is divided among its inputs."""

    needs_output: ClassVar[bool] = False
    """Whether the forward pass must keep the layer's output."""

    @abc.abstractmethod
    def relevance(self, layer: Layer, r: Tensor) -> Tensor:
        """Return the relevance of the inputs.

        Args:
            layer: The layer as it was called.
            r: Relevance of its outputs, behind a merged batch-norm.

        Returns:
            Shaped like the layer's input.
        """


@dataclass(frozen=True)
class Epsilon(Rule):
    """R_i = Σ_j c_ij / (z_j + ε·sign(z_j)) R_j with z_j = Σ_i c_ij, and sign(0) = 1.

    Without an ε and on a piecewise linear network without biases it is gradient × input. Contributions of
    both signs cancel in z, so relevance may become large and of both signs; see ``ZPlus``.

    Args:
        epsilon: ε; None for 1e-6 in float32, scaled with the rounding error of other types.
        bias: What becomes of the bias b_j. ``"ignore"``: it stays out of z. ``"absorb"``: z_j holds it, as in
            the original formula, and its share b_j / z_j is lost. ``"spread"``: z_j holds it, and its share
            goes to the inputs in proportion to abs(c_ij). Where biases are large beside contributions, z
            without them comes near 0 at outputs that are not, and relevance explodes over many layers;
            ``"spread"`` keeps it in bounds and conserved, for twice the cost.
    """

    epsilon: float | None = None
    bias: Literal["ignore", "absorb", "spread"] = "ignore"
    needs_output: ClassVar[bool] = True

    def relevance(self, layer: Layer, r: Tensor) -> Tensor:
        """See ``Rule``."""
        shares = quotient(r, layer.merged_output(bias=self.bias != "ignore"), self.epsilon)
        out = layer.merged_adjoint(shares).mul_(layer.input)
        bias = layer.merged_bias() if self.bias == "spread" else None
        if bias is not None:
            lift = torch.finfo(r.dtype).tiny ** 0.25  # outputs that see only zeros go by the size of weights
            size, weight = layer.input.abs().add_(lift), layer.merged_weight().abs().add_(lift)
            shares = shares * layer.along_channels(bias, shares) / layer.apply(size, weight)
            out.addcmul_(layer.adjoint(shares, weight), size)
        return out


@dataclass(frozen=True)
class ZPlus(Rule):
    """R_i = Σ_j c⁺_ij / Σ_i c⁺_ij R_j: only positive contributions count.

    Inputs may have either sign: c⁺ = a⁺w⁺ + a⁻w⁻. Those known to be non-negative (behind a ReLU) cost one
    convolution each way, others two.

    Outputs without any positive contribution, which are what they are by a bias or a negative sum, would lose
    their relevance. They divide it by the size of their negative contributions instead or, where all inputs
    are 0, by the size of their weights. No case is told apart: weights of the wrong sign count with rounding
    error times their size, and inputs are taken to be the fourth root of the smallest number larger than they
    are.

    Args:
        epsilon: A stabiliser as in ``Epsilon``, and relevance is lost as said, as others have it. None for
            neither.
        bias: Whether a positive bias takes its share of the denominator.
    """

    epsilon: float | None = None
    bias: bool = False

    def relevance(self, layer: Layer, r: Tensor) -> Tensor:
        """See ``Rule``."""
        offset = layer.merged_bias() if self.bias else None
        if offset is not None:
            offset = offset.clamp(min=0)
        if self.epsilon is not None:
            return _shared(layer, r, self.epsilon, positive=True, offset=offset)
        number = torch.finfo(r.dtype)
        leak, lift, stabiliser = number.eps, number.tiny**0.25, number.tiny**0.75
        return _shared(layer, r, stabiliser, positive=True, offset=offset, leak=leak, lift=lift)


@dataclass(frozen=True)
class AlphaBeta(Rule):
    """R_i = Σ_j (α c⁺_ij / Σ_i c⁺_ij − β c⁻_ij / Σ_i c⁻_ij) R_j.

    Where an output has no negative contribution its −β share is lost, and likewise with positive ones.

    Args:
        alpha: Weight of positive contributions.
        beta: Weight of negative ones; α − β must be 1.
        epsilon: Stabiliser, as in ``Epsilon``.

    Raises:
        UserError: α − β is not 1.
    """

    alpha: float = 2.0
    beta: float = 1.0
    epsilon: float | None = None

    def __post_init__(self) -> None:
        if abs(self.alpha - self.beta - 1) > 1e-9 or self.beta < 0:
            raise UserError(
                f"alpha - beta must be 1 and beta at least 0 so that relevance is conserved, "
                f"not alpha={self.alpha:g} and beta={self.beta:g}."
            )

    def relevance(self, layer: Layer, r: Tensor) -> Tensor:
        """See ``Rule``."""
        out = _shared(layer, r, self.epsilon, positive=True).mul_(self.alpha)
        if self.beta:
            negative = _shared(layer, r, self.epsilon, positive=False)
            out.sub_(negative, alpha=self.beta)
        return out


@dataclass(frozen=True)
class Gamma(Rule):
    """R_i = Σ_j (c_ij + γ c^s_ij) / Σ_i (c_ij + γ c^s_ij) R_j, where s is the sign of z_j = Σ_i c_ij.

    For non-negative inputs and positive z this is the usual rule with weights w + γ w⁺. Outputs with negative
    z favour negative contributions, so the denominator never vanishes by cancelling. γ = 0 is ``Epsilon``; γ
    → ∞ on positive outputs is ``ZPlus``.

    Args:
        gamma: γ ≥ 0.
        epsilon: Stabiliser, as in ``Epsilon``.

    Raises:
        UserError: γ is negative.
    """

    gamma: float = 0.25
    epsilon: float | None = None
    needs_output: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.gamma < 0:
            raise UserError(f"gamma must be at least 0, not {self.gamma:g}.")

    def relevance(self, layer: Layer, r: Tensor) -> Tensor:
        """See ``Rule``."""
        weight = layer.merged_weight()
        z = layer.merged_output(bias=False)
        out = torch.zeros_like(layer.input)
        for side, positive in ((z >= 0, True), (z < 0, False)):
            parts = list(_contributions(layer, positive=positive))
            total = z.clone()
            for x, w in parts:
                total.add_(layer.apply(x, w), alpha=self.gamma)
            shares = torch.where(side, r / stabilised(total, self.epsilon), 0)
            out.addcmul_(layer.adjoint(shares, weight), layer.input)
            for x, w in parts:
                out.addcmul_(layer.adjoint(shares, w), x, value=self.gamma)
        return out


@dataclass(frozen=True)
class Flat(Rule):
    """R_i = Σ_j R_j / n_j over the outputs j that see input i; each sees n_j inputs, padding not counted.

    For first layers, whose inputs (pixels, coordinates) have no meaningful zero. All channels of an input
    position get the same.
    """

    def relevance(self, layer: Layer, r: Tensor) -> Tensor:
        """See ``Rule``."""
        return layer.map.spread(r, layer.weight, layer.input)


@dataclass(frozen=True)
class WSquare(Rule):
    """R_i = Σ_j w²_ij / Σ_i w²_ij R_j over the inputs that exist, padding not counted.

    Args:
        epsilon: Stabiliser, as in ``Epsilon``.
    """

    epsilon: float | None = None

    def relevance(self, layer: Layer, r: Tensor) -> Tensor:
        """See ``Rule``."""
        one = layer.input.new_ones((1, *layer.input.shape[1:]))
        weight = layer.merged_weight().square()
        return layer.adjoint(r / stabilised(layer.apply(one, weight), self.epsilon, nonnegative=True), weight)


def _contributions(
    layer: Layer, *, positive: bool, leak: float = 0.0, lift: float = 0.0
) -> Iterable[tuple[Tensor, Tensor]]:
    """Yield (input part, weight part) whose products are the contributions of one sign.

    Weights of the other sign count with their sign turned and ``leak`` times their size; inputs and weights
    are taken to be ``lift`` larger than they are.
    """
    x = layer.input

    def weight(*, positive: bool) -> Tensor:
        part = layer.weight_part(positive=positive, leak=leak)
        return part.add_(lift if positive else -lift) if lift else part

    if layer.nonnegative:
        yield x + lift if lift else x, weight(positive=positive)
    else:
        yield x.clamp(min=0).add_(lift), weight(positive=positive)
        yield x.clamp(max=0).sub_(lift), weight(positive=not positive)


def _shared(
    layer: Layer,
    r: Tensor,
    epsilon: float | None,
    *,
    positive: bool,
    offset: Tensor | None = None,
    leak: float = 0.0,
    lift: float = 0.0,
) -> Tensor:
    """Divide relevance in proportion to the contributions of one sign."""
    parts = list(_contributions(layer, positive=positive, leak=leak, lift=lift))
    z = layer.apply(*parts[0])
    for x, w in parts[1:]:
        z.add_(layer.apply(x, w))
    if offset is not None:
        z.add_(layer.along_channels(offset, z))
    shares = quotient(r, z, epsilon, nonnegative=positive)
    out = layer.adjoint(shares, parts[0][1]).mul_(parts[0][0])
    for x, w in parts[1:]:
        out.addcmul_(layer.adjoint(shares, w), x)
    return out
