"""Graph classification on the TUDataset: PROTEINS, MUTAG and any other of its format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from regathlon_core.errors import UserError, for_the_user
from regathlon_core.rng import stream
from regathlon_core.task import Split
from regathlon_data import DataError, located
from regathlon_graphs.graph_classification.settings import TuSettings
from regathlon_graphs.graph_classification.task import GraphClassification
from regathlon_graphs.graph_classification.tu_files import read_collection
from regathlon_graphs.pyg import Graph


class Tu(GraphClassification):
    """Graphs of a collection of the TUDataset, split at random or in ten folds.

    The files lie where torch-geometric's ``TUDataset`` has them, ``TUDataset/<folder>/raw/<folder>_A.txt`` and so on, and
    are read into memory: nothing is downloaded or written. Nodes have their attributes, as stored, and their labels
    one-hot (torch-geometric's ``use_node_attr=True``).

    Args:
        settings: Which collection, and which split.
        data: The data root; see ``regathlon_data.data_root``.

    Raises:
        UserError: Files are missing or damaged, or there are fewer than ten graphs.
    """

    def __init__(self, settings: TuSettings, data: Path | None = None) -> None:
        with for_the_user(DataError):
            root = located(settings.dataset, data)
        folder = root / "TUDataset" / settings.folder
        found = read_collection(folder / "raw", settings.folder)
        graphs = _graphs(
            torch.from_numpy(found.features), torch.from_numpy(found.edges), torch.from_numpy(found.nodes)
        )
        if len(graphs) < 10:
            raise UserError(f"{len(graphs)} graphs are too few to split 80:10:10.", where=str(folder / "raw"))
        labels, number = torch.from_numpy(found.labels), settings.split or 0
        if settings.protocol == "folds":
            splits = fold_split(_folds(folder / "10fold_idx", labels), number % 10)
        else:
            splits = random_split(len(graphs), number)
        super().__init__(settings, found.names, graphs, labels, splits)


def random_split(count: int, number: int) -> dict[Split, Tensor]:
    """Draw a split: 80 % to train and 10 % to validate, both rounded down, and the rest to test.

    The same graphs as HGP-SL's (Zhang et al., 2019; https://github.com/cszhangzhen/HGP-SL) with that seed: one permutation by
    torch's generator.

    Args:
        count: Graphs.
        number: Which of the random splits.

    Returns:
        Indices, int64, disjoint and together all of them.

    Example:
        >>> {split: len(index) for split, index in random_split(1113, 0).items()}
        {'train': 890, 'val': 111, 'test': 112}
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(number))
    train, val = count * 8 // 10, count // 10
    return {"train": order[:train], "val": order[train : train + val], "test": order[train + val :]}


def fold_split(folds: Sequence[Tensor], number: int) -> dict[Split, Tensor]:
    """Return a split in which one fold tests, the next validates and the others train.

    Args:
        folds: Indices, int64, disjoint.
        number: Which one tests.
    """
    parts = [*folds[number:], *folds[:number]]
    return {"test": parts[0], "val": parts[1], "train": torch.cat(parts[2:])}


def _folds(folder: Path, labels: Tensor) -> list[Tensor]:
    files = [folder / f"test_idx-{number}.txt" for number in range(1, 11)]
    if not folder.exists():
        order = torch.randperm(len(labels), generator=stream(0, "folds"))
        by_class = order[labels[order].argsort(stable=True)]
        return [by_class[number::10] for number in range(10)]
    try:
        folds = [torch.tensor([int(float(line)) for line in file.read_text().split()]) for file in files]
    except (OSError, ValueError) as error:
        raise UserError(f"The ten folds are incomplete or damaged: {error}", where=str(folder)) from error
    together = torch.cat(folds)
    if int(together.min()) < 0 or int(together.max()) >= len(labels):
        raise UserError(f"A fold names a graph outside of 0 to {len(labels) - 1}.", where=str(folder))
    if int(torch.bincount(together).max()) > 1:
        raise UserError("Two folds share a graph.", where=str(folder))
    return folds


def _graphs(features: Tensor, edges: Tensor, nodes: Tensor) -> list[Graph]:
    ends = nodes.cumsum(0)
    begins = ends - nodes
    cuts = torch.searchsorted(edges[0].contiguous(), ends)
    parts = zip(
        torch.split(features, nodes.tolist()), edges.tensor_split(cuts[:-1], dim=1), begins, strict=True
    )
    return [Graph(x=x, edge_index=edge_index - begin) for x, edge_index, begin in parts]
