"""Which rule each kind of layer gets."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from regathlon_core.attribution.rules import AlphaBeta, Epsilon, Flat, Gamma, Rule, WSquare, ZPlus
from regathlon_core.errors import unknown


@dataclass(frozen=True)
class Composite:
    """A rule for every layer of a model.

    Attributes:
        linear: Rule of fully connected layers.
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
    convolution: Rule = field(default_factory=ZPlus)
    first: Rule | None = None
    addition: Literal["norm", "copy"] = "norm"
    layers: tuple[tuple[str, Rule], ...] = ()
    epsilon: float | None = None

    def rule(self, kind: Literal["linear", "conv"], name: str, *, first: bool) -> Rule:
        """Return the rule of one layer."""
        for pattern, rule in self.layers:
            if fnmatch.fnmatchcase(name, pattern):
                return rule
        if first and self.first is not None:
            return self.first
        return self.linear if kind == "linear" else self.convolution


COMPOSITES: Mapping[str, Composite] = MappingProxyType(
    {
        "epsilon_plus_flat": Composite(first=Flat()),
        "epsilon_plus": Composite(),
        "epsilon": Composite(convolution=Epsilon()),
        "epsilon_norm": Composite(
            linear=Epsilon(1e-3, bias=True), convolution=Epsilon(1e-3, bias=True), first=Flat()
        ),
        "gamma": Composite(convolution=Gamma(0.25), first=Flat()),
        "alpha_beta": Composite(convolution=AlphaBeta(2.0, 1.0), first=Flat()),
        "w_squared": Composite(first=WSquare()),
        "official_2d": Composite(
            linear=Epsilon(1e-3, bias=True),
            convolution=Epsilon(1e-3, bias=True),
            first=Flat(),
            addition="copy",
            epsilon=1e-6,
        ),
    }
)
"""The composites that have names.

=====================  ==================  ==================  =============  ================================
name                   fully connected     convolution         first layer    remark
=====================  ==================  ==================  =============  ================================
``epsilon_plus_flat``  ε                   z+                  flat           default: conservative, robust
``epsilon_plus``       ε                   z+                  as others
``epsilon``            ε                   ε                   as others      gradient × input where there is
no bias ``epsilon_norm``       ε = 1e-3, biases    ε = 1e-3, biases    flat           cheapest: one pass
forward, one back ``gamma``              ε                   γ = 0.25            flat
``alpha_beta``         ε                   α = 2, β = 1        flat
``w_squared``          ε                   z+                  w²
``official_2d``        ε = 1e-3, biases    ε = 1e-3, biases    flat           RelDrop's published code:
                                                                              additions copy relevance, so it
                                                                              is **not** conserved
=====================  ==================  ==================  =============  ================================
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
