"""Making clouds of one size out of what files hold."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from regathlon_core.errors import UserError
from regathlon_points.ops import farthest_point_sample

Floats: TypeAlias = NDArray[np.floating]

_VERSION = 1  # raised where the same files give other clouds
_CHUNK = 64  # clouds that are read, thinned out and stored together


def in_unit_sphere(cloud: Floats) -> Floats:
    """Move the centroid of coordinates [N, 3] to the origin and the farthest point to the distance 1."""
    centred = cloud - cloud.mean(axis=0)
    radius = np.linalg.norm(centred, axis=1).max()
    result: Floats = centred / radius if radius > 0 else centred
    return result


def thin_out(cloud: Floats, points: int, sampling: str) -> Floats:
    """Return so many of a cloud's points [N, C].

    Args:
        cloud: [N, C]; where it has fewer points than are asked for, it is repeated.
        points: How many.
        sampling: ``"farthest"``: points that cover the cloud evenly, from the first one on; ``"first"``: the
            first ones, as published code does with files whose points have a random order.

    Returns:
        float32 [points, C], coordinates in the unit sphere.
    """
    if len(cloud) < points:
        cloud = np.resize(cloud, (points, cloud.shape[1]))
    if sampling == "first" or len(cloud) == points:
        chosen = cloud[:points]
    else:
        places = torch.from_numpy(np.ascontiguousarray(cloud[None, :, :3], dtype=np.float64))
        chosen = cloud[farthest_point_sample(places, points, start=0)[0].numpy()]
    return np.concatenate([in_unit_sphere(chosen[:, :3]), chosen[:, 3:]], axis=1).astype(np.float32)


def read_clouds(
    paths: Sequence[Path], read: Callable[[Path], Floats], points: int, sampling: str, about: str
) -> Floats:
    """Return clouds float32 [B, points, C] of one file each, read once and remembered.

    What was read is kept in the user's cache folder under a name made of the files' names, sizes and times,
    some dozens of clouds in one file, which appears there whole or not at all: a run that is killed goes on
    where it was.

    Args:
        paths: The files, in order.
        read: How to read one: [N, C], coordinates first; N may differ.
        points: Points of a cloud.
        sampling: See ``thin_out``.
        about: What else decides the result: the reader's name and options.

    Raises:
        UserError: A file cannot be read; the message names it.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "regathlon" / "clouds"
    parts = []
    for start in range(0, len(paths), _CHUNK):
        chunk = paths[start : start + _CHUNK]
        stored = folder / f"{_key(chunk, f'{about} {points} {sampling}')}.npy"
        part = _stored(stored)
        if part is None:
            part = np.stack([_cloud(path, read, points, sampling) for path in chunk])
            _store(stored, part)
        parts.append(part)
    return np.concatenate(parts)


def _cloud(path: Path, read: Callable[[Path], Floats], points: int, sampling: str) -> Floats:
    cloud = read(path)
    if not len(cloud) or not np.isfinite(cloud).all():
        raise UserError("It holds no points, or coordinates that are not numbers.", where=str(path))
    return thin_out(cloud, points, sampling)


def _key(paths: Sequence[Path], about: str) -> str:
    digest = hashlib.sha256(f"{_VERSION} {about}".encode())
    for path in paths:
        status = path.stat()
        digest.update(f"\0{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:32]


def _stored(path: Path) -> Floats | None:
    try:
        part: Floats = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return part


def _store(path: Path, part: Floats) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            np.save(file, part)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
    except OSError:  # no room, no right to write: it is read again next time
        return
