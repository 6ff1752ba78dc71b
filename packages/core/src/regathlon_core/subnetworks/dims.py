"""Axes of full-width tensors as small expressions, and the algebra that keeps what belongs together together.

A *leaf* is an axis of which a width keeps a prefix. A *sum* is a concatenation of axes, of which it keeps
what its parts keep (``torch.cat``, packed q/k/v). A *product* is a row-major flattening of axes (heads × head
size, groups × channels of a group). Channels that must agree (the two sides of a residual sum) are joined, so
that they are one axis.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Literal

Runs = tuple[tuple[int, int], ...]
"""Positions kept on an axis, as half-open intervals in order."""

Kind = Literal["leaf", "sum", "product"]


class Retrace(Exception):
    """The model's calls ask for something that the plan has not seen yet."""


class Dim:
    """One axis of a full-width tensor.

    Attributes:
        size: Its full length.
        kind: ``leaf``, ``sum`` or ``product``.
        parts: The axes it is made of; empty for a leaf.
        whole: For a leaf: no width shortens it.
        layers: For a leaf: names of the weights whose outputs it counts.
    """

    __slots__ = ("_alias", "cache", "kind", "layers", "parts", "size", "whole")

    def __init__(self, size: int, *, whole: bool = False, layers: Iterable[str] = ()) -> None:
        self.size = size
        self.kind: Kind = "leaf"
        self.parts: tuple[Dim, ...] = ()
        self.whole = whole or size <= 1
        self.layers = tuple(layers)
        self.cache: tuple[object, Runs] | None = None
        self._alias: Dim | None = None

    def root(self) -> Dim:
        """Return the axis that this one has been joined to."""
        dim = self
        while dim._alias is not None:
            dim = dim._alias
        return dim

    def become(self, other: Dim) -> None:
        """Be the same axis as another from now on."""
        if self is not other:
            self._alias = other

    def leaves(self) -> list[Dim]:
        """Return the leaves of the expression, in order."""
        dim = self.root()
        if dim.kind == "leaf":
            return [dim]
        return [leaf for part in dim.parts for leaf in part.leaves()]

    def composed(self, kind: Kind) -> list[Dim]:
        """Return the parts of a sum or the factors of a product, nested ones flattened; others are their own part."""
        dim = self.root()
        if dim.kind != kind:
            return [dim]
        return [inner for part in dim.parts for inner in part.composed(kind)]

    def __repr__(self) -> str:
        dim = self.root()
        if dim.kind == "leaf":
            return f"{dim.size}{'!' if dim.whole else ''}"
        return "(" + (" + " if dim.kind == "sum" else " × ").join(map(repr, dim.parts)) + ")"


def cat(parts: Sequence[Dim]) -> Dim:
    """Return the concatenation of axes."""
    return _compose("sum", [part for part in parts if part.size])


def merge(factors: Sequence[Dim]) -> Dim:
    """Return the row-major flattening of axes, outermost first."""
    return _compose("product", [factor for factor in factors if factor.size != 1])


def _compose(kind: Kind, parts: Sequence[Dim]) -> Dim:
    flat = [inner for part in parts for inner in part.composed(kind)]
    if len(flat) == 1:
        return flat[0]
    sizes = [part.size for part in flat]
    dim = Dim(sum(sizes) if kind == "sum" else math.prod(sizes))
    if all(part.kind == "leaf" and part.whole for part in flat):
        dim.whole = True
        return dim
    dim.kind = kind
    dim.parts = tuple(flat)
    return dim


class Algebra:
    """Joins and takes apart axes while a model is traced."""

    def keep_whole(self, dim: Dim) -> None:
        """Never shorten an axis."""
        for leaf in dim.leaves():
            leaf.whole = True

    def join(self, a: Dim, b: Dim) -> Dim:
        """Make two axes of equal size keep the same positions; return the one that stands for both."""
        a, b = a.root(), b.root()
        if a is b:
            return a
        if a.kind != "leaf":
            a, b = b, a
        if a.kind == "leaf":
            if a.whole:
                self.keep_whole(b)
            if b.kind == "leaf":
                b.layers = tuple(dict.fromkeys((*b.layers, *a.layers)))
            a.become(b)
            return b
        if a.kind == b.kind == "sum":
            bounds = {
                *itertools.accumulate(p.size for p in a.parts),
                *itertools.accumulate(p.size for p in b.parts),
            }
            sizes = [high - low for low, high in itertools.pairwise(sorted({0, *bounds}))]
            pairs = zip(self.cut(a, sizes), self.cut(b, sizes), strict=True)
        else:
            factors = [[f.size for f in dim.composed("product")] for dim in (a, b) if dim.kind == "product"]
            refined = _refine(factors[0], factors[-1])
            if refined is None:
                self.keep_whole(a)
                self.keep_whole(b)
                return b
            pairs = zip(self.split(a, refined), self.split(b, refined), strict=True)
        for left, right in pairs:
            self.join(left, right)
        a.root().become(b.root())
        return b.root()

    def split(self, dim: Dim, sizes: Sequence[int]) -> list[Dim]:
        """Read an axis as a row-major product, as ``view`` does; where no sub-network could, the axis stays whole."""
        dim = dim.root()
        if len(sizes) == 1:
            return [dim]
        if 1 in sizes:
            rest = iter(self.split(dim, [size for size in sizes if size != 1] or [1]))
            return [Dim(1) if size == 1 else next(rest) for size in sizes]
        if dim.kind == "leaf":
            return self._expand(dim, "product", sizes)
        if dim.kind == "sum":
            inner = math.prod(sizes[1:])
            if any(part.size % inner for part in dim.parts):
                return self._give_up(dim, sizes)
            rows = [self.split(part, [part.size // inner, *sizes[1:]]) for part in dim.parts]
            for row in rows:
                self.keep_whole(row[0])
            columns = []
            for column in zip(*(row[1:] for row in rows), strict=True):
                joined = column[0]
                for other in column[1:]:
                    joined = self.join(joined, other)
                columns.append(joined)
            return [Dim(sizes[0], whole=True), *columns]
        factors = dim.composed("product")
        refined = _refine([factor.size for factor in factors], sizes)
        if refined is None:
            return self._give_up(dim, sizes)
        fine = iter(refined)
        pieces = iter([piece for f in factors for piece in self.split(f, _take(fine, f.size))])
        fine = iter(refined)
        return [merge([next(pieces) for _ in _take(fine, size)]) for size in sizes]

    def cut(self, dim: Dim, sizes: Sequence[int]) -> list[Dim]:
        """Read an axis as a concatenation, as ``split`` and ``chunk`` do."""
        dim = dim.root()
        if 0 in sizes:
            rest = iter(self.cut(dim, [size for size in sizes if size]))
            return [next(rest) if size else Dim(0) for size in sizes]
        if len(sizes) == 1:
            return [dim]
        if dim.kind == "leaf":
            return self._expand(dim, "sum", sizes)
        if dim.kind == "sum":
            bounds = list(itertools.accumulate(sizes))
            pieces, start = [], 0
            for part in dim.composed("sum"):
                inside = [bound - start for bound in bounds if start < bound < start + part.size]
                edges = [0, *inside, part.size]
                pieces += self.cut(part, [high - low for low, high in itertools.pairwise(edges)])
                start += part.size
            queue = iter(pieces)
            return [cat(_take_dims(queue, size)) for size in sizes]
        factors = dim.composed("product")
        first, last, inner = factors[0], factors[-1], dim.size // factors[0].size
        aligned = all(size % inner == 0 for size in sizes)
        if aligned and first.kind == "leaf" and first.whole:
            return [merge([Dim(size // inner, whole=True), *factors[1:]]) for size in sizes]
        if last.size == len(sizes) and len(set(sizes)) == 1:
            # Channels that were shuffled (interleaved) and are dealt out again: each part gets as many as the
            # other, and counts as the first channels of its own axis, as it would in a smaller network.
            self.keep_whole(last)
            return [merge(factors[:-1])] * len(sizes)
        if aligned:
            firsts = self.cut(first, [size // inner for size in sizes])
            return [merge([part, *factors[1:]]) for part in firsts]
        return self._give_up(dim, sizes)

    def _expand(self, leaf: Dim, kind: Kind, sizes: Sequence[int]) -> list[Dim]:
        parts = [Dim(size, whole=leaf.whole, layers=leaf.layers) for size in sizes]
        if not leaf.whole:
            leaf.kind, leaf.parts = kind, tuple(parts)
        return parts

    def _give_up(self, dim: Dim, sizes: Sequence[int]) -> list[Dim]:
        self.keep_whole(dim)
        return [Dim(size, whole=True) for size in sizes]


class FrozenAlgebra(Algebra):
    """The same operations where the plan is made: they check, and change nothing.

    Args:
        widths: What is kept of every axis.
    """

    def __init__(self, widths: Widths) -> None:
        self.widths = widths

    def keep_whole(self, dim: Dim) -> None:
        """Check that an axis is whole."""
        if not self.widths.is_whole(dim):
            raise Retrace(f"an axis {dim} has to be whole")

    def join(self, a: Dim, b: Dim) -> Dim:
        """Check that two axes keep the same positions."""
        if a.root() is not b.root() and self.widths.runs(a) != self.widths.runs(b):
            raise Retrace(f"the axes {a} and {b} have to agree")
        return a

    def _expand(self, leaf: Dim, kind: Kind, sizes: Sequence[int]) -> list[Dim]:
        self.keep_whole(leaf)
        return [Dim(size, whole=True) for size in sizes]


class Widths:
    """What one width keeps of every axis.

    Args:
        counts: Positions kept per leaf; leaves that are not listed stay whole.
    """

    def __init__(self, counts: dict[Dim, int]) -> None:
        self._counts = counts

    def runs(self, dim: Dim) -> Runs:
        """Return the positions kept on an axis."""
        dim = dim.root()
        if dim.cache is None or dim.cache[0] is not self:
            dim.cache = self, self._runs(dim)
        return dim.cache[1]

    def count(self, dim: Dim) -> int:
        """Return how many positions are kept."""
        runs = self.runs(dim)
        if len(runs) == 1:
            return runs[0][1] - runs[0][0]
        return sum(stop - start for start, stop in runs)

    def is_whole(self, dim: Dim) -> bool:
        """Return whether all positions are kept."""
        return self.count(dim) == dim.size

    def _runs(self, dim: Dim) -> Runs:
        if dim.kind == "leaf":
            if dim in self._counts:
                return ((0, self._counts[dim]),)
            if not dim.whole:
                raise Retrace(f"the axis {dim} is new")
            return ((0, dim.size),) if dim.size else ()
        if dim.kind == "sum":
            starts = itertools.accumulate((part.size for part in dim.parts), initial=0)
            return _coalesce(
                (start + low, start + high)
                for start, part in zip(starts, dim.parts, strict=False)
                for low, high in self.runs(part)
            )
        runs: Runs = ((0, 1),)
        for factor in dim.parts:
            inner = self.runs(factor)
            if inner == ((0, factor.size),):
                runs = tuple((low * factor.size, high * factor.size) for low, high in runs)
            else:
                runs = _coalesce(
                    (position * factor.size + low, position * factor.size + high)
                    for start, stop in runs
                    for position in range(start, stop)
                    for low, high in inner
                )
        return runs


def _coalesce(runs: Iterable[tuple[int, int]]) -> Runs:
    out: list[tuple[int, int]] = []
    for low, high in runs:
        if out and out[-1][1] == low:
            out[-1] = out[-1][0], high
        else:
            out.append((low, high))
    return tuple(out)


def _refine(a: Sequence[int], b: Sequence[int]) -> list[int] | None:
    """Return the coarsest factorisation that both refine to, or None where they cross (2 × 3 and 3 × 2)."""
    bounds = sorted({1, *itertools.accumulate(a, int.__mul__), *itertools.accumulate(b, int.__mul__)})
    pairs = list(itertools.pairwise(bounds))
    if any(high % low for low, high in pairs):
        return None
    return [high // low for low, high in pairs]


def _take(factors: Iterable[int], size: int) -> list[int]:
    """Take factors from an iterator until their product is ``size``."""
    taken: list[int] = []
    iterator = iter(factors)
    while math.prod(taken) < size:
        taken.append(next(iterator))
    return taken


def _take_dims(dims: Iterable[Dim], size: int) -> list[Dim]:
    """Take axes from an iterator until they are ``size`` long together."""
    taken: list[Dim] = []
    iterator = iter(dims)
    while sum(dim.size for dim in taken) < size:
        taken.append(next(iterator))
    return taken
