"""Reading graphs, labels and splits in the format of the Open Graph Benchmark, without trusting or asking anybody."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regathlon_core.errors import UserError

_CACHE = "regathlon-1"
_CACHED_FROM = 32 * 2**20
"""Raw files that are smaller are read again each time."""
_LINES = 4_000_000
"""Of a table that are in memory at once."""


@dataclass(frozen=True)
class OgbGraphs:
    """Many graphs in one: the nodes and edges of a graph follow one another, and nodes are counted from its first.

    Attributes:
        nodes: Nodes of each graph, int64 [G].
        edges: Edges of each graph, int64 [G].
        edge_index: As stored, one way or both, int [2, E].
        node_feat: int64 or float32 [N, F], or None.
        edge_feat: int64 or float32 [E, D], or None.
    """

    nodes: NDArray[np.int64]
    edges: NDArray[np.int64]
    edge_index: NDArray[Any]
    node_feat: NDArray[Any] | None
    edge_feat: NDArray[Any] | None


def read_graphs(folder: Path) -> OgbGraphs:
    """Read the graphs of a data set: tables ``raw/edge.csv.gz`` and so on, or ``raw/data.npz`` as ``DatasetSaver`` writes it.

    Large ones are kept as plain arrays beside the raw files, in a folder that appears at once and complete, so a process
    that is killed on the way leaves nothing half done; afterwards they are mapped into memory, not read into it. They are
    made anew where the raw files have changed.

    Args:
        folder: Holds ``raw``.

    Raises:
        UserError: A file is missing, truncated or does not fit the others.
    """
    raw = folder / "raw"
    names = (
        ("data.npz",)
        if (raw / "data.npz").exists()
        else ("edge.csv.gz", "num-node-list.csv.gz", "num-edge-list.csv.gz")
    )
    for name in names:
        if not (raw / name).exists():
            raise UserError("There is no such file.", where=str(raw / name))
    files = sorted(raw.glob("*.npz")) if names == ("data.npz",) else sorted(raw.glob("*.csv.gz"))
    source = {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in files}
    if sum(size for size, _ in source.values()) < _CACHED_FROM:
        return _checked(_from_raw(raw, None), folder)
    cache = folder / _CACHE
    if _source_of(cache) != source:
        partial = folder / f"{_CACHE}.{os.getpid()}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
        except OSError:  # a folder of somebody else's
            return _checked(_from_raw(raw, None), folder)
        try:
            for name, array in _checked(_from_raw(raw, partial), folder).__dict__.items():
                if array is not None:
                    _keep(partial / f"{name}.npy", array)
            for rows in partial.glob("*.rows"):
                rows.unlink()
            (partial / "source.json").write_text(json.dumps(source))
            shutil.rmtree(cache, ignore_errors=True)
            partial.rename(cache)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    arrays = {name: _mapped(cache / f"{name}.npy") for name in OgbGraphs.__dataclass_fields__}
    return OgbGraphs(**arrays)  # type: ignore[arg-type]


def read_labels(folder: Path) -> NDArray[Any]:
    """Return the labels, float32 with NaN for unknown ones or int64, [rows, tasks].

    Raises:
        UserError: There are none, or they are damaged.
    """
    raw = folder / "raw"
    for stem in ("graph-label", "node-label"):
        if (raw / f"{stem}.npz").exists():
            labels = _npz(raw / f"{stem}.npz")[stem.replace("-", "_")]
        elif (raw / f"{stem}.csv.gz").exists():
            labels = _table(raw / f"{stem}.csv.gz")
        else:
            continue
        labels = labels.reshape(len(labels), -1)
        whole = labels.dtype.kind in "iu" or bool((labels == np.floor(labels)).all())
        return labels.astype(np.int64 if whole else np.float32)
    raise UserError("There are neither graph-label nor node-label files.", where=str(raw))


def read_split(folder: Path, name: str, count: int) -> dict[str, torch.Tensor]:
    """Return the rows of ``"train"``, ``"val"`` and ``"test"``, int64.

    Args:
        folder: Holds ``split``.
        name: Which split.
        count: Rows in all.

    Raises:
        UserError: A part is missing, names a row that is not there, or shares one with another part.
    """
    at = folder / "split" / name
    if (at / "split_dict.pt").exists():
        stored = _safe_load(at / "split_dict.pt")
    else:
        stored = {part: _table(at / f"{part}.csv.gz")[:, 0] for part in ("train", "valid", "test")}
    splits = {}
    for part, ours in (("train", "train"), ("valid", "val"), ("test", "test")):
        if part not in stored:
            raise UserError(f"The split has no part {part!r}.", where=str(at))
        rows = torch.as_tensor(np.asarray(stored[part])).long()
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < count:
            raise UserError(f"The part {part!r} names a row outside of 0 to {count - 1}.", where=str(at))
        splits[ours] = rows
    together = torch.cat(list(splits.values()))
    if int(torch.bincount(together, minlength=1).max()) > 1:
        raise UserError("The parts of the split overlap, or one names a row twice.", where=str(at))
    return splits


def _from_raw(raw: Path, scratch: Path | None) -> OgbGraphs:
    if (raw / "data.npz").exists():
        stored = _npz(raw / "data.npz")
        try:
            return OgbGraphs(
                stored["num_nodes_list"],
                stored["num_edges_list"],
                stored["edge_index"],
                stored.get("node_feat"),
                stored.get("edge_feat"),
            )
        except KeyError as error:
            raise UserError(f"It lacks {error}.", where=str(raw / "data.npz")) from None

    def part(name: str, field: str) -> NDArray[Any] | None:
        file = raw / f"{name}.csv.gz"
        return _table(file, None if scratch is None else scratch / f"{field}.npy") if file.exists() else None

    edge = part("edge", "edge_pairs")
    assert edge is not None
    return OgbGraphs(
        _table(raw / "num-node-list.csv.gz")[:, 0],
        _table(raw / "num-edge-list.csv.gz")[:, 0],
        edge.T,
        part("node-feat", "node_feat"),
        part("edge-feat", "edge_feat"),
    )


def _checked(graphs: OgbGraphs, folder: Path) -> OgbGraphs:
    where = str(folder / "raw")
    nodes, edges = int(graphs.nodes.sum()), int(graphs.edges.sum())
    rows = {
        "nodes and the rows of node-feat": (nodes, graphs.node_feat),
        "edges and the rows of edge-feat": (edges, graphs.edge_feat),
        "edges and the pairs of edge": (edges, graphs.edge_index.T),
    }
    for what, (count, array) in rows.items():
        if array is not None and len(array) != count:
            raise UserError(f"The numbers of {what} differ: {count} and {len(array)}.", where=where)
    if len(graphs.nodes) != len(graphs.edges):
        raise UserError("The lists of nodes and edges count different numbers of graphs.", where=where)
    begin = 0
    limits = np.repeat(graphs.nodes, graphs.edges) if len(graphs.nodes) > 1 else None
    while begin < edges:
        end = begin + _LINES
        pairs = graphs.edge_index[:, begin:end]
        limit = nodes if limits is None else limits[begin:end]
        if (pairs < 0).any() or (pairs >= limit).any():
            raise UserError("An edge names a node that its graph does not have.", where=where)
        begin = end
    return graphs


def _table(path: Path, keep: Path | None = None) -> NDArray[Any]:
    """Return a table of numbers; with ``keep``, as an array on disk of which a part is in memory at a time."""
    import pandas as pd  # type: ignore[import-untyped]

    parts: list[NDArray[Any]] = []
    file = None
    try:
        for chunk in pd.read_csv(path, header=None, compression="gzip", chunksize=_LINES):
            values = chunk.to_numpy()
            values = values.astype(np.int64 if values.dtype.kind in "iu" else np.float32)
            if keep is None:
                parts.append(values)
                continue
            file = file or keep.with_suffix(".rows").open("wb")
            values.tofile(file)
            parts.append(values[:0])
    except FileNotFoundError:
        raise UserError("There is no such file.", where=str(path)) from None
    except pd.errors.EmptyDataError:
        return np.zeros((0, 1), np.int64)
    except (EOFError, OSError, ValueError) as error:
        raise UserError(f"It is truncated or no table of numbers: {error}", where=str(path)) from error
    finally:
        if file is not None:
            file.close()
    if keep is None:
        return np.concatenate(parts)
    if len({part.dtype for part in parts}) > 1:
        raise UserError("Whole numbers and others are mixed in one column.", where=str(path))
    return np.memmap(keep.with_suffix(".rows"), dtype=parts[0].dtype, mode="r").reshape(-1, parts[0].shape[1])


def _npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # whatever damaged bytes may lead to
        raise UserError(f"It is damaged: {error}", where=str(path)) from error


def _safe_load(path: Path) -> Mapping[str, Any]:
    """Load what ``DatasetSaver`` saved: tensors and arrays of numbers, and nothing that runs code."""
    reconstruct: Callable[..., Any] = np._core.multiarray._reconstruct  # type: ignore[attr-defined]
    allowed: list[Any] = [
        (reconstruct, "numpy.core.multiarray._reconstruct"),
        reconstruct,
        np.ndarray,
        np.dtype,
        *(type(np.dtype(name)) for name in ("int32", "int64", "float32", "float64")),
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            stored = torch.load(path, weights_only=True)
    except Exception as error:
        raise UserError(f"It is damaged, or holds more than numbers: {error}", where=str(path)) from error
    if not isinstance(stored, Mapping):
        raise UserError("It holds no mapping.", where=str(path))
    return stored


def _keep(path: Path, array: NDArray[Any]) -> None:
    """Write an array, a part at a time."""
    kept = np.lib.format.open_memmap(path, mode="w+", dtype=array.dtype, shape=array.shape)
    axis = int(np.argmax(array.shape))
    for begin in range(0, array.shape[axis], _LINES):
        part = (slice(None),) * axis + (slice(begin, begin + _LINES),)
        kept[part] = array[part]
    kept.flush()


def _source_of(cache: Path) -> object:
    try:
        return json.loads((cache / "source.json").read_text())
    except (OSError, ValueError):
        return None


def _mapped(path: Path) -> NDArray[Any] | None:
    return np.load(path, mmap_mode="c") if path.exists() else None
