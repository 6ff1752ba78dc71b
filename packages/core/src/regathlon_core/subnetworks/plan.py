"""How a model's channels hang together, learned by watching it run once, and what a width keeps of them."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping

from regathlon_core.errors import UserError
from regathlon_core.subnetworks.dims import Algebra, Dim, Widths

Divisor = float | Mapping[str, float]


def kept_channels(channels: int, width: float, divisor: float = 1.0) -> int:
    """Return how many of a layer's channels a sub-network has: ``int(int(c·w/r + 0.5)·r)``, at least 1.

    Source: GradAug's public code (https://github.com/taoyang1122/GradAug, ``models/randwidth_ops.py``), after
    slimmable networks. Deviations: (1) that code bumps the number up where rounding loses more than a tenth,
    which only happens below five channels; we do not. (2) Width 1 keeps everything, and no width gives more
    than there is, whatever the divisor.

    Args:
        channels: Channels of the full layer.
        width: Share to keep, in (0, 1].
        divisor: r: keep multiples of it (8 suits tensor cores). A fraction 1/k keeps a layer in step with one
            that is k times as wide: a bottleneck's inner layer has r = 0.25.

    Example:
        >>> [kept_channels(c, 0.9) for c in (256, 512, 1024, 2048)], kept_channels(64, 0.9, 0.25)
        ([230, 461, 922, 1843], 57)
    """
    if width == 1:
        return channels
    return min(channels, max(1, int(int(channels * width / divisor + 0.5) * divisor)))


class Plan:
    """The axes that a model's weights produce, joined where the model needs them to agree.

    It depends on the model's structure only, never on a width. Running the model another way (with auxiliary
    heads, say) may add to it.
    """

    def __init__(self) -> None:
        self.algebra = Algebra()
        self.produced: dict[tuple[str, int], Dim] = {}
        """What each weight produces, by its name and the axis that counts it."""
        self.padded: list[tuple[Dim, Dim]] = []
        """Axes of zero-padded channels, which are at least as long as what was padded."""

    def forget(self) -> None:
        """Empty the plan."""
        self.produced.clear()
        self.padded.clear()

    def widths(self, width: float, divisor: Divisor = 1.0) -> Widths:
        """Return what a width keeps of every axis.

        Where an axis is a product (heads × head size, groups × channels of a group), only its outermost
        factor that may shrink does: heads go, head sizes stay.

        Raises:
            UserError: Layers that must agree were given different divisors.
        """
        quanta: dict[Dim, int] = {}
        whole: set[Dim] = set()
        for dim in self.produced.values():
            _choose(dim, 1, quanta, whole)
        counts = {leaf: _count(leaf, width, divisor, quantum) for leaf, quantum in quanta.items()}
        counts.update({leaf: leaf.size for leaf in whole})
        changed = True
        while changed:
            changed = False
            for longer, shorter in self.padded:
                needed = Widths(counts).count(shorter)
                if Widths(counts).count(longer) < needed:
                    leaves = longer.leaves()
                    counts.update({leaf: needed if len(leaves) == 1 else leaf.size for leaf in leaves})
                    changed = True
        return Widths(counts)


def _choose(dim: Dim, quantum: int, quanta: dict[Dim, int], whole: set[Dim]) -> None:
    """Decide which leaves shrink; ``quantum`` channels of the layer go with one position of them."""
    dim = dim.root()
    if dim.kind == "leaf":
        if not dim.whole and dim not in whole:
            quanta[dim] = math.lcm(quanta.get(dim, 1), quantum)
        return
    if dim.kind == "sum":
        for part in dim.parts:
            _choose(part, quantum, quanta, whole)
        return
    factors = dim.composed("product")
    free = [[leaf for leaf in f.leaves() if not leaf.whole and leaf not in whole] for f in factors]
    shrinking = [f for f, leaves in zip(factors, free, strict=True) if any(leaf in quanta for leaf in leaves)]
    shrinking = shrinking or [f for f, leaves in zip(factors, free, strict=True) if leaves][:1]
    for factor, leaves in zip(factors, free, strict=True):
        if factor in shrinking:
            _choose(factor, quantum * dim.size // factor.size, quanta, whole)
        else:
            whole.update(leaves)


def _count(leaf: Dim, width: float, divisor: Divisor, quantum: int) -> int:
    if isinstance(divisor, Mapping):
        chosen = {name: _divisor_of(name, divisor) for name in leaf.layers}
        if len(set(chosen.values())) > 1:
            listed = ", ".join(f"{name} ({value:g})" for name, value in chosen.items())
            raise UserError(f"These layers have the same channels and need the same divisor: {listed}.")
        divisor = next(iter(chosen.values()), 1.0)
    if quantum > 1:  # a multiple of the divisor in channels, counted in groups
        divisor = divisor / math.gcd(int(divisor), quantum) if divisor >= 1 else 1.0
    return kept_channels(leaf.size, width, divisor)


def _divisor_of(name: str, divisors: Mapping[str, float]) -> float:
    for pattern, divisor in divisors.items():
        if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name.rpartition(".")[0], pattern):
            return divisor
    return 1.0
