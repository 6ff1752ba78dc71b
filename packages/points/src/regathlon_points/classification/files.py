"""Reading the files that clouds come in."""

from __future__ import annotations

import io
import re
import zlib
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray

from regathlon_core.errors import UserError
from regathlon_points.classification.clouds import Floats

_DENSITY = 4  # points drawn from a mesh for every one that is kept


def read_mesh(path: Path, points: int) -> Floats:
    """Draw points from the surface of an ``.off`` mesh, any two areas of one size alike, with their normals.

    The random numbers come from the file's name, so that a mesh has the same points wherever it lies.

    Args:
        path: The file; a header that runs into the counts (``OFF490 518 0``, as in ModelNet) is understood.
        points: Points that will be kept; four times as many are drawn.

    Returns:
        float64 [4 * points, 6].

    Raises:
        UserError: The file is broken; the message says where and what is wrong.
    """
    try:
        text = path.read_text(errors="replace")
        text = re.sub(r"\A\s*(C?OFF)(?=[ \t]*\d)", r"\1\n", text)
        mesh = trimesh.load_mesh(io.BytesIO(text.encode()), file_type="off", process=False)
        vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces)
    except OSError as error:
        raise UserError(f"It cannot be read: {error.strerror}.", where=str(path)) from error
    except Exception as error:  # whatever trimesh stumbles over in a broken file
        raise UserError(
            f"It is no whole OFF mesh ({type(error).__name__}: {error}). Get the file again, or remove it.",
            where=str(path),
        ) from error
    wrong = _what_is_wrong(text, vertices, faces)
    if wrong is None and not float(mesh.area) > 0:
        wrong = "its surface has no area"
    if wrong is not None:
        raise UserError(
            f"It is no whole OFF mesh: {wrong}. Get the file again, or remove it.", where=str(path)
        )
    rng = np.random.default_rng([2026, zlib.crc32(path.name.encode())])
    surface, face = trimesh.sample.sample_surface(mesh, _DENSITY * points, seed=rng)
    corners = vertices[faces[face]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return np.concatenate([np.asarray(surface), normals], axis=1)


def _what_is_wrong(text: str, vertices: Floats, faces: NDArray[np.integer]) -> str | None:
    counts = re.match(r"\s*C?OFF\s+(?:#[^\n]*\n\s*)*(\d+)\s+(\d+)", text)
    if counts is None:
        return "it does not start with OFF and the numbers of vertices and faces"
    if len(vertices) != int(counts[1]):
        return f"it promises {counts[1]} vertices and holds {len(vertices)}"
    if not len(faces) or faces.ndim != 2:
        return "it holds no faces"
    if len(faces) < int(counts[2]):
        return f"it promises {counts[2]} faces and holds {len(faces)}"
    if int(faces.min()) < 0 or int(faces.max()) >= len(vertices):
        return f"a face has vertex {int(faces.max())}, of {len(vertices)}"
    return None if np.isfinite(vertices).all() else "a vertex is not a number"


def read_text(path: Path, normals: bool) -> Floats:
    """Read rows of numbers, x y z nx ny nz ..., separated by commas or spaces: float32 [N, 3 or 6].

    Raises:
        UserError: The file is broken.
    """
    try:
        text = path.read_text().replace(",", " ")
        if not text.strip():
            raise ValueError("the file is empty")
        rows = np.atleast_2d(np.loadtxt(io.StringIO(text), dtype=np.float32))
    except (OSError, ValueError) as error:
        raise UserError(f"It holds no rows of numbers ({error}).", where=str(path)) from error
    columns = 6 if normals else 3
    if rows.shape[1] < columns:
        raise UserError(f"Its rows have {rows.shape[1]} numbers instead of {columns}.", where=str(path))
    return rows[:, :columns]


def read_array(path: Path) -> Floats:
    """Read a ``.npy`` file of coordinates: float32 [N, 3].

    Raises:
        UserError: The file is broken or holds something else.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"It is no array ({error}).", where=str(path)) from error
    if array.ndim != 2 or array.shape[1] < 3 or array.dtype.kind != "f":
        raise UserError(
            f"It holds {array.dtype} {list(array.shape)} instead of coordinates [N, 3].", where=str(path)
        )
    coordinates: Floats = array[:, :3].astype(np.float32)
    return coordinates


def read_hdf5(path: Path, normals: bool = False) -> tuple[Floats, NDArray[np.int64]]:
    """Read clouds and labels from an HDF5 file: float32 [B, N, 3 or 6] and int64 [B].

    Raises:
        UserError: The file is broken or lacks what is asked for.
    """
    import h5py  # type: ignore[import-untyped]  # not needed by any other source

    try:
        with h5py.File(path) as file:
            clouds = np.asarray(file["data"], dtype=np.float32)[..., :3]
            if normals:
                clouds = np.concatenate([clouds, np.asarray(file["normal"], dtype=np.float32)], axis=2)
            labels = np.asarray(file["label"], dtype=np.int64).reshape(-1)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"It is no whole HDF5 file of clouds and labels ({error}).", where=str(path)
        ) from error
    if clouds.ndim != 3 or len(clouds) != len(labels):
        raise UserError(f"It holds clouds {list(clouds.shape)} for {len(labels)} labels.", where=str(path))
    return clouds, labels
