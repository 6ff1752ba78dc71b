"""Solids of ten kinds as meshes, every instance of its own random proportions; z is up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import trimesh
from numpy.typing import ArrayLike
from trimesh import Trimesh, creation

Build: TypeAlias = Callable[[np.random.Generator], Trimesh]

_SECTIONS = 24  # sides of what is round
_QUARTER_TURN = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])  # about x


def _box(rng: np.random.Generator) -> Trimesh:
    mesh: Trimesh = creation.box(rng.uniform(0.5, 1.5, size=3))
    return mesh


def _ellipsoid(rng: np.random.Generator) -> Trimesh:
    mesh: Trimesh = creation.icosphere(subdivisions=2)
    mesh.apply_transform(np.diag([*rng.uniform(0.5, 1.0, size=3), 1.0]))
    return mesh


def _cylinder(rng: np.random.Generator) -> Trimesh:
    mesh: Trimesh = creation.cylinder(
        radius=rng.uniform(0.3, 0.7), height=rng.uniform(0.6, 2.0), sections=_SECTIONS
    )
    return mesh


def _cone(rng: np.random.Generator) -> Trimesh:
    mesh: Trimesh = creation.cone(
        radius=rng.uniform(0.4, 0.9), height=rng.uniform(0.8, 2.0), sections=_SECTIONS
    )
    return mesh


def _torus(rng: np.random.Generator) -> Trimesh:
    mesh: Trimesh = creation.torus(
        major_radius=1.0, minor_radius=rng.uniform(0.2, 0.6), major_sections=_SECTIONS, minor_sections=12
    )
    return mesh


def _capsule(rng: np.random.Generator) -> Trimesh:
    mesh: Trimesh = creation.capsule(
        height=rng.uniform(0.5, 2.0), radius=rng.uniform(0.3, 0.6), count=[16, 16]
    )
    return mesh


def _tube(rng: np.random.Generator) -> Trimesh:
    outer = rng.uniform(0.4, 0.9)
    mesh: Trimesh = creation.annulus(
        r_min=outer * rng.uniform(0.5, 0.85), r_max=outer, height=rng.uniform(0.4, 1.8), sections=_SECTIONS
    )
    return mesh


def _angle(rng: np.random.Generator) -> Trimesh:
    """An L, lying or standing on one leg."""
    length, width, thick, other = 1.0, rng.uniform(0.6, 1.0), rng.uniform(0.15, 0.35), rng.uniform(0.15, 0.35)
    outline = [(0, 0), (length, 0), (length, thick), (other, thick), (other, width), (0, width)]
    return _standing(_prism(outline, apex=3, height=rng.uniform(0.3, 1.0)), rng)


def _star(rng: np.random.Generator) -> Trimesh:
    """A prism over a star of four to six points."""
    spikes = int(rng.integers(4, 7))
    turn = np.arange(2 * spikes) * (np.pi / spikes)
    radius = np.where(np.arange(2 * spikes) % 2 == 0, 1.0, rng.uniform(0.4, 0.6))
    outline = np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)
    return _standing(_prism([*outline, (0.0, 0.0)], apex=2 * spikes, height=rng.uniform(0.3, 1.0)), rng)


def _stairs(rng: np.random.Generator) -> Trimesh:
    """Two to four steps of one depth and one rise."""
    steps = int(rng.integers(2, 5))
    depth, rise, width = rng.uniform(0.3, 0.6), rng.uniform(0.2, 0.5), rng.uniform(0.5, 1.5)
    blocks = []
    for step in range(steps):
        height = rise * (step + 1)
        block = creation.box((depth, width, height))
        block.apply_translation((depth * step, 0.0, height / 2))
        blocks.append(block)
    mesh = trimesh.util.concatenate(blocks)
    assert isinstance(mesh, Trimesh)
    return mesh


BUILDERS: Mapping[str, Build] = MappingProxyType(
    {
        "box": _box,
        "ellipsoid": _ellipsoid,
        "cylinder": _cylinder,
        "cone": _cone,
        "torus": _torus,
        "capsule": _capsule,
        "tube": _tube,
        "angle": _angle,
        "star": _star,
        "stairs": _stairs,
    }
)
"""Each kind's name and the function that makes an instance, in the order of the labels."""


def _prism(outline: ArrayLike, apex: int, height: float) -> Trimesh:
    """Extrude a polygon all of which is seen from the apex: a corner, or an extra last point inside."""
    vertices = np.asarray(outline, dtype=np.float64)
    count = len(vertices)
    inside = apex == count - 1  # the apex is no corner: the outline closes without it
    ring = [i for i in range(count) if i != apex] if inside else [(apex + i) % count for i in range(1, count)]
    edges = list(zip(ring, ring[1:] + ring[:1] if inside else ring[1:], strict=False))
    faces = np.array([(apex, first, second) for first, second in edges])
    mesh: Trimesh = creation.extrude_triangulation(vertices, faces, height=height)
    return mesh


def _standing(mesh: Trimesh, rng: np.random.Generator) -> Trimesh:
    """Leave the prism lying or stand it upright, either with even chance."""
    if rng.random() < 0.5:
        mesh.apply_transform(_QUARTER_TURN)
    return mesh
