"""Memory and time of one training epoch on a graph of the size of ogbn-products, which it makes itself.

    python benchmarks/speed/products.py FOLDER

Writes 2449029 nodes with 100 features and 61859140 edges in OGB's on-disk format (the tables compressed lightly, about
1.5 GB), reads them as a trial does, trains a GraphSAGE for one epoch of Cluster-GCN with OGB's settings, and prints the
seconds and the peak memory of every stage, each in a process of its own. Evaluation on the whole graph is a stage too.
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

NODES, EDGES, FEATURES, CLASSES = 2_449_029, 61_859_140, 100, 47
STAGES = ("write", "read", "train", "evaluate")


def write(root: Path, share: float) -> None:
    """Write a graph whose edges mostly join nodes of near numbers, shuffled."""
    nodes, edges = int(NODES * share), int(EDGES * share)
    rng = np.random.default_rng(0)
    place = rng.permutation(nodes)
    folder = root / "OGB" / "ogbn_products"
    raw, split = folder / "raw", folder / "split" / "sales_ranking"
    raw.mkdir(parents=True, exist_ok=True)
    split.mkdir(parents=True, exist_ok=True)
    labels = np.empty(nodes, np.int64)
    labels[place] = np.arange(nodes) * CLASSES // nodes
    with gzip.open(raw / "edge.csv.gz", "wb", compresslevel=1) as file:
        for begin in range(0, edges, 1_000_000):
            count = min(1_000_000, edges - begin)
            one = rng.integers(0, nodes, count)
            far = rng.random(count) < 0.1
            other = (one + np.where(far, rng.integers(1, nodes, count), rng.integers(1, 200, count))) % nodes
            lines(file, np.stack([place[one], place[other]], axis=1), "%d,%d")
    with gzip.open(raw / "node-feat.csv.gz", "wb", compresslevel=1) as file:
        for begin in range(0, nodes, 20_000):
            part = rng.integers(-99, 100, (min(20_000, nodes - begin), FEATURES)) / 100
            part[:, 0] += labels[begin : begin + 20_000]
            lines(file, part, ",".join(["%.2f"] * FEATURES))
    for name, values in (("node-label", labels), ("num-node-list", [nodes]), ("num-edge-list", [edges])):
        with gzip.open(raw / f"{name}.csv.gz", "wt") as text:
            text.writelines(f"{value}\n" for value in values)
    order = rng.permutation(nodes)
    ends = [0, nodes * 8 // 100, nodes * 10 // 100, nodes]  # the shares of ogbn-products
    for part_name, begin, end in zip(("train", "valid", "test"), ends, ends[1:], strict=False):
        with gzip.open(split / f"{part_name}.csv.gz", "wt") as text:
            text.writelines(f"{node}\n" for node in order[begin:end].tolist())


def lines(file: gzip.GzipFile, rows: np.ndarray, pattern: str) -> None:
    file.write(("\n".join([pattern] * len(rows)) + "\n").encode() % tuple(rows.ravel().tolist()))


def stage(name: str, root: Path, share: float) -> None:
    """Do one stage."""
    if name == "write":
        write(root, share)
        return
    import torch

    from regathlon_core import Budget, Recipe, fit
    from regathlon_graphs import NodeSageSettings, ProductsSettings

    torch.set_num_threads(1)
    settings = ProductsSettings(clusters=max(32, int(15000 * share)))
    task = settings.build(root)
    if name == "read":
        return
    model = NodeSageSettings(hidden=256, layers=3).build(task)
    if name == "evaluate":
        print(task.evaluate_splits(model, ("val", "test")))
        return
    recipe = settings.recipe
    task.evaluate_splits = lambda *_, **__: {}  # a stage of its own
    result = fit(model, task, recipe=Recipe(**{**vars(recipe), "budget": Budget(epochs=1)}))
    print(
        f"loss {result.history[-1].train_loss:.3f}, {result.cost.steps} steps of {result.cost.step_seconds:.3f} s"
    )


def main() -> int:
    """Run the stages, each in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="data root to write to; what is there is used")
    parser.add_argument("--share", type=float, default=1.0, help="of the nodes and edges of ogbn-products")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        stage(options.stage, options.folder, options.share)
        return 0
    for name in STAGES:
        if name == "write" and (options.folder / "OGB" / "ogbn_products" / "split").exists():
            continue
        before = time.perf_counter()
        command = [
            sys.executable,
            __file__,
            str(options.folder),
            "--share",
            str(options.share),
            "--stage",
            name,
        ]
        process = subprocess.Popen(command)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            return 1
        seconds, memory = time.perf_counter() - before, usage.ru_maxrss / 2**20
        print(
            f"{name:9} {seconds:7.0f} s ({usage.ru_utime + usage.ru_stime:.0f} s CPU)  peak {memory:5.2f} GiB",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
