"""Scores of the Open Graph Benchmark, by its own evaluators."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from torch import Tensor

from regathlon_core.metrics import Metrics
from regathlon_core.task import Batch
from regathlon_graphs import pyg

Level = Literal["graph", "node"]


@functools.cache
def _evaluators() -> Mapping[str, type[Any]]:
    """Import ogb without its look for a newer version, which is a thread that waits for the network."""
    assert pyg  # imported first, as ogb imports torch-geometric, which warns
    missing = object()
    kept = sys.modules.get("outdated", missing)
    sys.modules["outdated"] = None  # type: ignore[assignment]
    try:
        from ogb.graphproppred import Evaluator as GraphEvaluator  # type: ignore[import-untyped]
        from ogb.nodeproppred import Evaluator as NodeEvaluator  # type: ignore[import-untyped]
    finally:
        if kept is missing:
            del sys.modules["outdated"]
        else:
            sys.modules["outdated"] = kept  # type: ignore[assignment]
    return {"graph": GraphEvaluator, "node": NodeEvaluator}


class OgbMetrics(Metrics):
    """Collects outputs and labels and has OGB's evaluator score them.

    Args:
        level: Whose property is predicted.
        metric: As OGB names it: ``"rocauc"``, ``"ap"``, ``"rmse"`` or ``"acc"``.
        tasks: Number of labels of a row.
        ignore_index: Class of rows that do not count, with ``"acc"``.
    """

    def __init__(self, level: Level, metric: str, tasks: int, ignore_index: int = -100) -> None:
        kind = _evaluators()[level]
        self.evaluator: Any = object.__new__(kind)  # its constructor knows the published data sets only
        self.evaluator.name, self.evaluator.num_tasks, self.evaluator.eval_metric = "", tasks, metric
        self.metric, self.tasks, self.ignore_index = metric, tasks, ignore_index
        self._true: list[np.ndarray[Any, Any]] = []
        self._predicted: list[np.ndarray[Any, Any]] = []

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Keep outputs [B, K] and labels: int64 [B] with ``"acc"``, else [B, tasks]."""
        targets = batch.targets
        if self.metric == "acc":
            outputs = outputs.argmax(dim=1)
            counted = targets != self.ignore_index
            targets, outputs = targets[counted], outputs[counted]
        self._true.append(targets.cpu().numpy().reshape(-1, self.tasks))
        self._predicted.append(outputs.float().cpu().numpy().reshape(-1, self.tasks))

    def compute(self) -> Mapping[str, float]:
        """Return the score; NaN where it is not defined (no task has labels of both kinds)."""
        scored = {"y_true": np.concatenate(self._true), "y_pred": np.concatenate(self._predicted)}
        if self.metric == "rocauc":
            both = (scored["y_true"] == 1).any(0) & (scored["y_true"] == 0).any(0)
            if not both.any():
                return {self.metric: float("nan")}
        if not len(scored["y_true"]):
            return {self.metric: float("nan")}
        return {self.metric: float(self.evaluator.eval(scored)[self.metric])}
