"""Citation graphs: Cora, CiteSeer, PubMed and any other in Planetoid's format."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import torch
from torch import Tensor

from regathlon_core.errors import UserError, for_the_user
from regathlon_core.rng import stream
from regathlon_core.task import Split
from regathlon_data import DataError, located
from regathlon_graphs.node_classification.planetoid_files import CitationGraph, read_planetoid
from regathlon_graphs.node_classification.settings import CitationSettings
from regathlon_graphs.node_classification.task import NodeClassification
from regathlon_graphs.pyg import Graph

_ROWS: dict[Split, slice] = {
    "train": slice(0, 140),
    "val": slice(200, 500),
    "test": slice(500, 1500),
}


class Citation(NodeClassification):
    """Papers and which cites which; features are the words of a paper, divided by their sum.

    The files lie where torch-geometric's ``Planetoid`` has them, ``Planetoid/<folder>/raw/ind.<name>.*``, and are
    read into memory: nothing is downloaded or written.

    Three ways to split:

    * ``"planetoid"``: the public split (Yang, Cohen and Salakhutdinov, ICML 2016): 20 labels of each class, 500
      nodes to validate, 1000 to test.
    * ``"pygcn"``: rows 0 to 139 train, 200 to 499 validate and 500 to 1499 test, as in https://github.com/tkipf/pygcn; they
      count the lines of ``cora.content``, an older file than Planetoid's, so only Cora has this split. Its training nodes
      are not balanced over the classes. Which line is which of Planetoid's nodes is told by ``cora_rows.txt`` beside this
      module.
    * ``"random"``: the same numbers of a random order drawn from ``split_seed``.

    Args:
        settings: Which graph, and how it is split.
        data: The data root; see ``regathlon_data.data_root``.

    Raises:
        UserError: Files are missing or damaged, or there are too few nodes for the split.
    """

    def __init__(self, settings: CitationSettings, data: Path | None = None) -> None:
        found = _read(settings, data)
        x = torch.from_numpy(found.features)
        x = x / x.sum(dim=1, keepdim=True).masked_fill_(x.sum(dim=1, keepdim=True) == 0, 1.0)
        graph = Graph(x=x, edge_index=torch.from_numpy(found.edges), y=torch.from_numpy(found.labels))
        classes = tuple(f"class {number}" for number in range(found.classes))
        super().__init__(settings, classes, graph, _splits(settings, found))


def _read(settings: CitationSettings, data: Path | None) -> CitationGraph:
    with for_the_user(DataError):
        root = located(settings.dataset, data)
    return read_planetoid(root / "Planetoid" / settings.folder / "raw", settings.folder.lower())


def _splits(settings: CitationSettings, found: CitationGraph) -> dict[Split, Tensor]:
    if settings.split == "planetoid":
        return {split: torch.from_numpy(found.splits[split]) for split in _ROWS}
    nodes = len(found.labels)
    needed = _ROWS["test"].stop
    if nodes < needed:
        raise UserError(
            f"{settings.name}: split={settings.split} takes {needed} nodes and the graph has {nodes}. "
            f"Use split=planetoid."
        )
    if settings.split == "random":
        order = torch.randperm(nodes, generator=stream(settings.split_seed, "citation split"))
    else:
        order = torch.tensor([int(node) for node in _cora_rows().split()])
        if len(order) != nodes:
            raise UserError(
                f"{settings.name}: split=pygcn belongs to the {len(order)} nodes of Cora; this graph has {nodes}."
            )
    return {split: order[rows] for split, rows in _ROWS.items()}


def _cora_rows() -> str:
    return importlib.resources.files(__package__).joinpath("cora_rows.txt").read_text(encoding="ascii")
