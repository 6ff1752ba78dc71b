"""Reading collections of graphs in the text format of TU Dortmund."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from regathlon_core.errors import UserError

_Number = TypeVar("_Number", np.int64, np.float32)


@dataclass(frozen=True)
class Collection:
    """Many graphs in one: the nodes of a graph follow one another.

    Attributes:
        features: float32 [N, F]: the attributes of the nodes, then their labels one-hot; a column of ones where
            there are neither.
        edges: int64 [2, E], both ways, sorted, each once and without loops, over all N nodes.
        nodes: Nodes of each graph, int64 [G], at least 1.
        labels: int64 [G], from 0.
        names: What the file calls the classes.
    """

    features: NDArray[np.float32]
    edges: NDArray[np.int64]
    nodes: NDArray[np.int64]
    labels: NDArray[np.int64]
    names: tuple[str, ...]


def read_collection(folder: Path, name: str) -> Collection:
    """Read a collection of the TUDataset (Morris et al., 2020); the format is told in each ``README.txt``.

    Labels and attributes of edges are not read.

    Args:
        folder: Holds ``<name>_A.txt`` and so on.
        name: As in the files' names.

    Raises:
        UserError: A file is missing or damaged, or does not fit the others.
    """
    indicator = _numbers(folder / f"{name}_graph_indicator.txt", np.int64)[:, 0]
    raw_labels = _numbers(folder / f"{name}_graph_labels.txt", np.int64)[:, 0]
    where = str(folder / f"{name}_graph_indicator.txt")
    if not len(indicator):
        raise UserError("There is no node.", where=where)
    if (np.diff(indicator) < 0).any() or indicator[0] < 1 or indicator[-1] > len(raw_labels):
        raise UserError(
            f"The graphs of the nodes must rise from 1 to {len(raw_labels)}, the number of graph labels.",
            where=where,
        )
    nodes = np.bincount(indicator - 1, minlength=len(raw_labels))
    if not nodes.all():
        raise UserError(f"Graph {int(nodes.argmin()) + 1} has no node.", where=where)
    names, labels = np.unique(raw_labels, return_inverse=True)
    return Collection(
        features=_features(folder, name, len(indicator)),
        edges=_edges(folder / f"{name}_A.txt", indicator),
        nodes=nodes,
        labels=labels.astype(np.int64),
        names=tuple(map(str, names.tolist())),
    )


def _features(folder: Path, name: str, count: int) -> NDArray[np.float32]:
    columns = []
    attributes, labels = (folder / f"{name}_node_{what}.txt" for what in ("attributes", "labels"))
    if attributes.exists():
        columns.append(_numbers(attributes, np.float32))
        if not np.isfinite(columns[0]).all():
            raise UserError("Some attributes are not finite numbers.", where=str(attributes))
    if labels.exists():
        kinds = _numbers(labels, np.int64)
        columns += [(kind[:, None] == np.unique(kind)).astype(np.float32) for kind in kinds.T]
    for part in columns:
        if len(part) != count:
            raise UserError(
                f"{name}_node_attributes.txt or {name}_node_labels.txt has {len(part)} lines, not one for each of the "
                f"{count} nodes.",
                where=str(folder),
            )
    return np.concatenate(columns, axis=1) if columns else np.ones((count, 1), np.float32)


def _edges(path: Path, indicator: NDArray[np.int64]) -> NDArray[np.int64]:
    pairs = _numbers(path, np.int64) - 1
    if pairs.size and (pairs.shape[1] != 2 or not 0 <= pairs.min() <= pairs.max() < len(indicator)):
        raise UserError(f"Every line must name two nodes of 1 to {len(indicator)}.", where=str(path))
    pairs = pairs.reshape(-1, 2)
    if (indicator[pairs[:, 0]] != indicator[pairs[:, 1]]).any():
        raise UserError("An edge joins nodes of different graphs.", where=str(path))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    keys = np.unique(np.concatenate([pairs, pairs[:, ::-1]]) @ np.array([len(indicator), 1]))
    return np.stack([keys // len(indicator), keys % len(indicator)])


def _numbers(path: Path, kind: type[_Number]) -> NDArray[_Number]:
    """Return a file's comma-separated numbers, [lines, columns]."""
    try:
        lines = [line for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    except FileNotFoundError:
        raise UserError("There is no such file.", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise UserError(f"It is no text: {error}", where=str(path)) from error
    if not lines:
        return np.empty((0, 1), kind)
    try:
        return np.loadtxt(lines, dtype=kind, delimiter=",", ndmin=2)
    except ValueError as error:
        raise UserError(f"It is no table of numbers: {error}", where=str(path)) from error
