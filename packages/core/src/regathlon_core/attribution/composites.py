"""Which rule each kind of layer gets."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from regathlon_core.attribution.rules import AlphaBeta, Epsilon, Flat, Gamma, Rule, WSquare, ZPlus
from regathlon_core.errors import unknown


@dataclass(frozen=True, kw_only=True)
class Composite:
    """A rule for every layer of a model.

    Attributes:
        linear: Rule of fully connected layers.
        last: Rule of the fully connected layer whose outputs are the logits; None for no difference.
        convolution: Rule of convolutions, transposed ones included.
        first: Rule of the layers that see the input before any other layer does; None for no exception.
        addition: ``"norm"`` divides relevance among summands in proportion to them; ``"copy"`` gives every
            tensor summand all of it, which conserves nothing, for comparison with code that overlooks
            additions.
        layers: (pattern, rule) pairs: the first shell pattern that matches a layer's dotted name decides.
            They come before all others.
        epsilon: Stabiliser of sums, means and attention; None as in ``Epsilon``.

    Example:
        >>> from regathlon_core.attribution import Composite, Gamma
        >>> composite = Composite(convolution=Gamma(0.5), layers=(("features.0", Gamma(1.0)),))
        >>> composite.rule("conv", "features.0", first=True)
        Gamma(gamma=1.0, epsilon=None)
    """

    linear: Rule = field(default_factory=Epsilon)
    last: Rule | None = None
    convolution: Rule = field(default_factory=ZPlus)
    first: Rule | None = None
    addition: Literal["norm", "copy"] = "norm"
    layers: tuple[tuple[str, Rule], ...] = ()
    epsilon: float | None = None

    def rule(
        self, kind: Literal["linear", "conv"], name: str, *, first: bool = False, last: bool = False
    ) -> Rule:
        """Return the rule of one layer.

        Args:
            kind: What it is.
            name: Its dotted name.
            first: Whether it sees the input before any other layer does.
            last: Whether its outputs are the logits.
        """
        for pattern, rule in self.layers:
            if fnmatch.fnmatchcase(name, pattern):
                return rule
        if first and self.first is not None:
            return self.first
        if kind == "conv":
            return self.convolution
        return self.last if last and self.last is not None else self.linear


_SPREADING = Epsilon(bias="spread")
_ABSORBING = Epsilon(1e-3, bias="absorb")

COMPOSITES: Mapping[str, Composite] = MappingProxyType(
    {
        "epsilon_plus_flat": Composite(linear=_SPREADING, last=Epsilon(), first=Flat()),
        "epsilon_plus": Composite(linear=_SPREADING, last=Epsilon()),
        "epsilon": Composite(convolution=Epsilon()),
        "epsilon_norm": Composite(linear=_ABSORBING, convolution=_ABSORBING, first=Flat()),
        "gamma": Composite(linear=_SPREADING, last=Epsilon(), convolution=Gamma(0.25), first=Flat()),
        "alpha_beta": Composite(
            linear=_SPREADING, last=Epsilon(), convolution=AlphaBeta(2.0, 1.0), first=Flat()
        ),
        "w_squared": Composite(linear=_SPREADING, last=Epsilon(), first=WSquare()),
        "official_2d": Composite(
            linear=_ABSORBING, convolution=_ABSORBING, first=Flat(), addition="copy", epsilon=1e-6
        ),
    }
)
"""The composites that have names.

=====================  =================  =================  =========  ===========================================
name                   fully connected    convolution        first      remark
=====================  =================  =================  =========  ===========================================
``epsilon_plus_flat``  ε                  z+                 flat       default: conservative, robust
``epsilon_plus``       ε                  z+                 as others
``epsilon``            ε                  ε                  as others  gradient × input where there are no biases
``epsilon_norm``       ε = 1e-3, absorbs  ε = 1e-3, absorbs  flat       cheapest: one pass forward, one back
``gamma``              ε                  γ = 0.25           flat
``alpha_beta``         ε                  α = 2, β = 1       flat
``w_squared``          ε                  z+                 w²
``official_2d``        ε = 1e-3, absorbs  ε = 1e-3, absorbs  flat       RelDrop's published code: additions copy
                                                                        relevance, so it is **not** conserved
=====================  =================  =================  =========  ===========================================

"ε" spreads the biases of fully connected layers but those of the last one, which it ignores; in ``epsilon`` all are
ignored. "Absorbs" means that biases take their share, which is lost. (See ``Epsilon``.)
"""


def find_composite(composite: str | Composite) -> Composite:
    """Return the composite of a name, or the one given.

    Raises:
        UserError: There is no such name.
    """
    if isinstance(composite, Composite):
        return composite
    if composite not in COMPOSITES:
        raise unknown("composite", composite, COMPOSITES)
    return COMPOSITES[composite]
