"""Time of graph trials: against torch-geometric's plain loop on Cora, and DropGraph's step on PROTEINS.

    python benchmarks/speed/graphs.py --data DIR --assert-ratio 0.3

Cora: 200 epochs of a two-layer GCN, evaluated after every epoch, by ``fit`` and by the loop of torch-geometric's GCN
example with the same recipe; a round runs each once. PROTEINS: one training step of the pooled GCN with each
regularizer, next to the plain step, and next to the same plain step by torch-geometric's own batches and layers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from timing import compare, report

from regathlon_core import Budget, Disout, DropGraph, Dropout, NoRegularizer, Regularizer, SpatialDropout, fit
from regathlon_core.engine.optimization import build_optimizer
from regathlon_graphs import Citation, CoraSettings, NodeNetwork, ProteinsSettings
from regathlon_graphs.pyg import Graph, Graphs, global_mean_pool

from torch_geometric.nn import GCNConv  # isort: skip  (after our own import, which silences its warnings)


class Example(torch.nn.Module):
    """The network of torch-geometric's GCN example, without its dropout."""

    def __init__(self, channels: int, classes: int, hidden: int = 16) -> None:
        super().__init__()
        self.conv1 = GCNConv(channels, hidden, cached=True)
        self.conv2 = GCNConv(hidden, classes, cached=True)

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.conv1(x, edges).relu(), edges)


def example_loop(task: Citation, epochs: int) -> None:
    """Train and evaluate as torch-geometric's example does."""
    graph: Graph = task.batch("train", torch.arange(task.size("train"))).inputs
    labels, splits = task._labels, task._splits
    masks = {split: torch.zeros(len(labels), dtype=torch.bool) for split in splits}
    for split, nodes in splits.items():
        masks[split][nodes] = True
    model = Example(task.in_channels, len(task.classes))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    for _ in range(epochs):
        model.train()
        optimizer.zero_grad()
        out = model(graph.x, graph.edge_index)
        F.cross_entropy(out[masks["train"]], labels[masks["train"]]).backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            predicted = model(graph.x, graph.edge_index).argmax(dim=-1)
        for mask in masks.values():
            int((predicted[mask] == labels[mask]).sum()) / int(mask.sum())


def ours(task: Citation, epochs: int) -> None:
    """Train and evaluate as a trial does."""
    recipe = replace(task.settings.recipe, budget=Budget(epochs=epochs), eval_every=1)
    fit(NodeNetwork(task.in_channels, len(task.classes)), task, recipe=recipe)


def proteins_step(data: Path, regularizer: Regularizer) -> Callable[[], None]:
    """Return a function that does one training step on 512 graphs."""
    task = ProteinsSettings(split=0).build(data)
    torch.manual_seed(0)
    model = task.settings.models[0](hidden=16, layers=2, norm=False, pooling="mean").build(task)
    regularizer.attach(model, task)
    regularizer.after_step(1.0)
    optimizer = build_optimizer(task.settings.recipe, model, regularizer)
    generator = torch.Generator().manual_seed(0)
    index = task.order(0, 0, 512)[0]

    def step() -> None:
        batch = task.batch("train", index)
        optimizer.zero_grad()
        batch = regularizer.transform(model, batch, task, generator)
        for loss in regularizer.losses(model, batch, task, generator):
            loss.backward()
        optimizer.step()

    return step


class PooledExample(torch.nn.Module):
    """The network of ``proteins_step`` of torch-geometric's layers."""

    def __init__(self, channels: int, classes: int, hidden: int = 16) -> None:
        super().__init__()
        self.conv1, self.conv2 = GCNConv(channels, hidden), GCNConv(hidden, hidden)
        self.head = torch.nn.Linear(hidden, classes)

    def forward(self, graphs: Graphs) -> torch.Tensor:
        hidden = self.conv1(graphs.x, graphs.edge_index).relu()
        hidden = self.conv2(hidden, graphs.edge_index).relu()
        return self.head(global_mean_pool(hidden, graphs.batch, graphs.num_graphs))


def example_step(data: Path) -> Callable[[], None]:
    """Return the plain step on the same 512 graphs as one would write it with torch-geometric."""
    task = ProteinsSettings(split=0).build(data)
    index = task.order(0, 0, 512)[0]
    graphs = [
        Graph(x=batch.inputs.x, edge_index=batch.inputs.edge_index, y=batch.targets)
        for batch in (task.batch("train", index[i : i + 1]) for i in range(len(index)))
    ]
    model = PooledExample(task.in_channels, len(task.classes))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=5e-4)

    def step() -> None:
        together = Graphs.from_data_list(graphs)
        optimizer.zero_grad()
        F.cross_entropy(model(together), together.y).backward()
        optimizer.step()

    return step


def main() -> int:
    """Run the comparisons; return 1 where ours is slower than asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="data root with Cora and PROTEINS")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--assert-ratio", type=float, help="fail where ours/example is above this on Cora")
    parser.add_argument(
        "--assert-step", type=float, help="fail where DropGraph's step is above this on PROTEINS"
    )
    parser.add_argument("--json", type=Path, help="write Cora's results to this file")
    options = parser.parse_args()

    torch.set_num_threads(1)
    cora = CoraSettings().build(options.data)
    loops = {
        "torch-geometric's example": lambda: example_loop(cora, options.epochs),
        "ours": lambda: ours(cora, options.epochs),
    }
    steps = {
        "none": proteins_step(options.data, NoRegularizer()),
        "dropout": proteins_step(options.data, Dropout(p=0.5)),
        "spatial_dropout": proteins_step(options.data, SpatialDropout(p=0.25, mode="position")),
        "disout": proteins_step(options.data, Disout(p=0.25, alpha=1.0, block_size=1)),
        "dropgraph": proteins_step(options.data, DropGraph(p=0.25, alpha=0.15, block_size=1)),
        "none, torch-geometric's": example_step(options.data),
    }
    slow = report(
        {f"Cora, {options.epochs} epochs": compare(loops, options.rounds, warm_up=1)},
        json_path=options.json,
        subject="ours",
        assert_ratio=options.assert_ratio,
    )
    return slow | report(
        {"PROTEINS, a step on 512 graphs": compare(steps, 10 * options.rounds)},
        json_path=None,
        subject="dropgraph",
        assert_ratio=options.assert_step,
    )


if __name__ == "__main__":
    sys.exit(main())
