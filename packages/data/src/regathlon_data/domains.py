"""Handwritten digits in four looks, for domain generalization."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regathlon_data.digits import load_digits
from regathlon_data.errors import DataError, did_you_mean
from regathlon_data.textures import Float, resize, smooth_field, warp

SIZE = 16
"""Height and width in pixels."""
VAL_SHARE = 0.2
"""Share of a domain's digits, within every class, that are kept for validation."""


@dataclass(frozen=True)
class DomainDigits:
    """Digits of one look, read-only.

    Attributes:
        images: uint8 [N, 16, 16, 3].
        labels: int64 [N], 0 to 9.
        digits: Indices in ``load_digits``, int64 [N].
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    digits: NDArray[np.int64]


def _paper(rng: np.random.Generator, ink: Float) -> Float:
    """Dark ink on white paper."""
    paper, pen = rng.uniform(0.9, 1.0, 3), rng.uniform(0.0, 0.25, 3)
    return _blend(np.broadcast_to(paper, (SIZE, SIZE, 3)), pen, ink)


def _chalkboard(rng: np.random.Generator, ink: Float) -> Float:
    """Bright strokes on a dark board with the smears of what was wiped off."""
    smears = smooth_field(rng, SIZE, SIZE, 1, 5) * smooth_field(rng, SIZE, SIZE, 1, 9)
    board = np.array([0.05, 0.15, 0.1]) + 0.45 * smears
    chalk = ink * (0.7 + 0.3 * rng.random(ink.shape))
    return _blend(board, rng.uniform(0.8, 1.0, 3), chalk)


def _poster(rng: np.random.Generator, ink: Float) -> Float:
    """Bold slanted strokes of one colour on another, brighter or darker."""
    angle, slant = rng.uniform(-0.2, 0.2), rng.uniform(0.1, 0.4)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    bold = np.sqrt(warp(ink, np.array([[1.0, 0.0], [slant, 1.0]]) @ turn))
    dark, bright = rng.uniform(0.0, 0.45, 3), rng.uniform(0.55, 1.0, 3)
    ground, colour = (dark, bright) if rng.random() < 0.5 else (bright, dark)
    return _blend(np.broadcast_to(ground, (SIZE, SIZE, 3)), colour, bold)


def _camera(rng: np.random.Generator, ink: Float) -> Float:
    """Thin strokes, brighter or darker than a coloured surface in uneven light, with sensor noise."""
    surface = rng.uniform(0.4, 0.6, 3) + 0.3 * (smooth_field(rng, SIZE, SIZE, 1, 2) - 0.5)
    step = rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 0.45)
    noise = rng.normal(0, 0.05, (SIZE, SIZE, 3))
    return np.asarray(surface + step * ink[:, :, None] ** 1.5 + noise, dtype=np.float32)


def _blend(ground: NDArray[Any], colour: NDArray[Any], ink: NDArray[Any]) -> Float:
    return np.asarray(ground + ink[:, :, None] * (colour - ground), dtype=np.float32)


_LOOKS: dict[str, Callable[[np.random.Generator, Float], Float]] = {
    "paper": _paper,
    "chalkboard": _chalkboard,
    "poster": _poster,
    "camera": _camera,
}
DOMAINS = tuple(_LOOKS)
"""The four looks."""


@functools.cache
def digit_domain(domain: str, split: str = "train") -> DomainDigits:
    """Return the digits of one look.

    Every digit belongs to one domain: the domains take turns within each class, so that all have the same
    writers and classes. In each domain the last fifth of every class is for validation.

    Args:
        domain: ``"paper"``, ``"chalkboard"``, ``"poster"`` or ``"camera"``.
        split: ``"train"`` or ``"val"``.

    Raises:
        DataError: There is no such domain or split.

    Example:
        >>> digit_domain("paper").images.shape, digit_domain("paper", "val").images.shape
        ((364, 16, 16, 3), (90, 16, 16, 3))
    """
    for kind, name, names in (("domain", domain, DOMAINS), ("split", split, ("train", "val"))):
        if name not in names:
            raise DataError(f"There is no {kind} {name!r} of the digit domains. {did_you_mean(name, names)}")
    every = load_digits()
    parts = []
    for label in range(10):
        members = np.flatnonzero(every.labels == label)[DOMAINS.index(domain) :: len(DOMAINS)]
        cut = len(members) - round(VAL_SHARE * len(members))
        parts.append(members[:cut] if split == "train" else members[cut:])
    digits = np.sort(np.concatenate(parts))
    images = np.stack([_draw(domain, digit) for digit in digits.tolist()])
    labels = every.labels[digits]
    for array in (images, labels, digits):
        array.flags.writeable = False
    return DomainDigits(images, labels, digits)


def _draw(domain: str, digit: int) -> NDArray[np.uint8]:
    """Draw one digit in one look; the result depends on these two alone."""
    rng = np.random.default_rng([DOMAINS.index(domain), digit])
    ink = resize(load_digits().images[digit].astype(np.float32) / 16, SIZE, SIZE)
    return (np.clip(_LOOKS[domain](rng, ink), 0, 1) * 255).round().astype(np.uint8)
