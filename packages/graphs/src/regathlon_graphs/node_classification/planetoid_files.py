"""Reading citation graphs in the format of Planetoid: Python 2 pickles, opened without trusting them."""

from __future__ import annotations

import collections
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regathlon_core.errors import UserError

PARTS = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
"""Endings of the files ``ind.<name>.<part>``."""
_VAL = 500


@dataclass(frozen=True)
class CitationGraph:
    """A citation graph and Planetoid's split of it.

    Attributes:
        features: float32 [N, F], as stored.
        edges: int64 [2, E], both ways, sorted, each once and without loops.
        labels: int64 [N].
        classes: Number of classes.
        splits: Nodes of ``"train"``, ``"val"`` and ``"test"``, int64.
    """

    features: NDArray[np.float32]
    edges: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: int
    splits: Mapping[str, NDArray[np.int64]]


def read_planetoid(folder: Path, name: str) -> CitationGraph:
    """Read a graph in the format of Yang, Cohen and Salakhutdinov, ICML 2016.

    Source: https://github.com/kimiyoung/planetoid, README. The labelled nodes of ``x`` come first and train; the
    500 after them validate (fewer, where ``allx`` ends before); those that ``test.index`` lists test. A node
    of the test range that it does not list (CiteSeer has 15) is isolated: it has no features, label 0 and no split.

    The files are pickles, which could run any code when opened, so nothing is rebuilt but arrays of numbers,
    sparse matrices of them and lists of neighbours.

    Args:
        folder: Holds ``ind.<name>.x`` and so on.
        name: In lower case, as in the files' names.

    Raises:
        UserError: A file is missing, damaged, holds something else, or does not fit the others.
    """
    raw = {part: _load(folder / f"ind.{name}.{part}") for part in PARTS[:-1]}
    index = _indices(folder / f"ind.{name}.test.index")
    where = str(folder / f"ind.{name}.*")
    x, tx, allx = (_dense(raw[part], where) for part in ("x", "tx", "allx"))
    y, ty, ally = (_matrix(raw[part], where) for part in ("y", "ty", "ally"))
    alike = len(x) == len(y) and len(tx) == len(ty) == len(index) and len(allx) == len(ally) and len(x) > 0
    if not alike or len({part.shape[1] for part in (x, tx, allx)}) != 1 or len(x) > len(allx):
        raise UserError(
            "The parts do not fit each other: rows of features, labels or indices differ.", where=where
        )
    if len({part.shape[1] for part in (y, ty, ally)}) != 1:
        raise UserError("The parts do not fit each other: they have different classes.", where=where)
    first, count = len(allx), max(len(allx), int(index.max(initial=-1)) + 1)
    if len(np.unique(index)) != len(index) or int(index.min(initial=first)) < first:
        raise UserError(
            f"test.index lists a node twice, or one of the {first} that are not there to test: splits would overlap.",
            where=where,
        )
    features = np.zeros((count, x.shape[1]), np.float32)
    onehot = np.zeros((count, y.shape[1]), np.float32)
    features[:first], onehot[:first] = allx, ally
    features[index], onehot[index] = tx, ty
    if not np.isfinite(features).all():
        raise UserError("Some features are not finite numbers.", where=where)
    val = np.arange(len(x), min(len(x) + _VAL, first))
    return CitationGraph(
        features=features,
        edges=_edges(raw["graph"], count, where),
        labels=onehot.argmax(axis=1).astype(np.int64),
        classes=onehot.shape[1],
        splits={"train": np.arange(len(x)), "val": val, "test": index},
    )


def _edges(graph: Any, count: int, where: str) -> NDArray[np.int64]:
    if not isinstance(graph, dict) or not all(
        isinstance(near, list) and all(isinstance(node, int) for node in [here, *near])
        for here, near in graph.items()
    ):
        raise UserError("graph is no mapping of nodes to lists of nodes.", where=where)
    pairs = np.array([(here, other) for here, near in graph.items() for other in near], np.int64).reshape(
        -1, 2
    )
    if pairs.size and not 0 <= pairs.min() <= pairs.max() < count:
        raise UserError(f"graph names a node outside of 0 to {count - 1}.", where=where)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    both = np.concatenate([pairs, pairs[:, ::-1]])
    return np.ascontiguousarray(np.unique(both, axis=0).T)


def _indices(path: Path) -> NDArray[np.int64]:
    try:
        return np.array([int(line) for line in path.read_text(encoding="ascii").split()], np.int64)
    except FileNotFoundError:
        raise UserError("There is no such file.", where=str(path)) from None
    except ValueError as error:
        raise UserError(f"It is no list of node numbers: {error}", where=str(path)) from error


# ---- pickles -----------------------------------------------------------------------------------------------


class _SparseRows:
    """What scipy stored of a matrix by rows: ``data``, ``indices``, ``indptr`` and ``_shape``."""


def _reconstruct(*_: object) -> NDArray[Any]:
    """Make the empty array that the pickle's next entry fills, whatever class it asks for."""
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _bytes(text: str, encoding: str = "latin1") -> bytes:
    """Return the bytes that Python 3 wrote as text, for Python 2 to read."""
    return text.encode("latin1")


_ALLOWED = {
    ("_codecs", "encode"): _bytes,
    ("scipy.sparse.csr", "csr_matrix"): _SparseRows,
    ("scipy.sparse._csr", "csr_matrix"): _SparseRows,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("__builtin__", "list"): list,  # its name in Python 2
    ("builtins", "list"): list,
    ("collections", "defaultdict"): collections.defaultdict,
}


class _Cautious(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no citation graph needs")
        return _ALLOWED[module, name]


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _Cautious(file, encoding="latin1").load()
    except FileNotFoundError:
        raise UserError("There is no such file.", where=str(path)) from None
    except Exception as error:  # whatever damaged bytes may lead to
        raise UserError(f"It is damaged or no part of a citation graph: {error}", where=str(path)) from error


def _dense(stored: Any, where: str) -> NDArray[np.float32]:
    """Return a matrix of features, which is stored sparse or not, float32 [N, F]."""
    if not isinstance(stored, _SparseRows):
        return _matrix(stored, where)
    try:
        rows, columns = (int(side) for side in getattr(stored, "_shape", None) or stored.shape)  # type: ignore[attr-defined]
        data, indices, indptr = stored.data, stored.indices, stored.indptr  # type: ignore[attr-defined]
        dense = np.zeros((rows, columns), np.float32)
        np.add.at(dense, (np.repeat(np.arange(rows), np.diff(indptr)), indices), data)
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"A sparse matrix of features is damaged: {error}", where=where) from error
    return dense


def _matrix(stored: Any, where: str) -> NDArray[np.float32]:
    if not isinstance(stored, np.ndarray) or stored.ndim != 2 or stored.dtype.kind not in "biuf":
        raise UserError("A part holds no matrix of numbers.", where=where)
    return stored.astype(np.float32)
