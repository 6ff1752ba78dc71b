"""MLflow."""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from regathlon.leaderboard import flat
from regathlon.results import Outcome

_NOT_ALLOWED = re.compile(r"[^\w\-./ ]")


class MLflow:
    """An experiment per suite, a run per trial; on a server, or in a file beside the run's trials."""

    needs: ClassVar[str] = "mlflow"

    def __init__(self, target: str | None, folder: Path, suite: str) -> None:
        place = target or f"sqlite:///{(folder / 'mlflow.db').absolute()}"
        self._client: Any = importlib.import_module("mlflow").MlflowClient(tracking_uri=place)
        self._entities: Any = importlib.import_module("mlflow.entities")
        found = self._client.get_experiment_by_name(suite)
        self._experiment = found.experiment_id if found else self._client.create_experiment(suite)

    def begin(self, cell: Mapping[str, Any]) -> str:
        """Create a run with the description's settings as parameters."""
        names = ("id", "task", "dataset", "model", "regularizer", "seed")
        tags = {f"regathlon.{name}": str(cell[name]) for name in names}
        made = self._client.create_run(self._experiment, tags=tags, run_name=str(cell["folder"]))
        params = [
            self._entities.Param(_allowed(key), str(value)[:500])
            for key, value in flat(cell["description"]).items()
        ]
        self._client.log_batch(made.info.run_id, params=params)
        return str(made.info.run_id)

    def record(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Log metrics."""
        now = time.time_ns() // 1_000_000
        metrics = [self._entities.Metric(_allowed(key), value, now, step) for key, value in values.items()]
        self._client.log_batch(name, metrics=metrics)

    def end(self, name: str, outcome: Outcome, values: Mapping[str, float]) -> None:
        """Log what is known at the end, and close the run."""
        self.record(name, int(outcome.cost.get("steps") or 0), values)
        self._client.set_tag(name, "regathlon.status", f"{outcome.status} {outcome.reason or ''}".strip())
        self._client.set_terminated(name, "FINISHED" if outcome.status == "done" else "FAILED")


def _allowed(name: str) -> str:
    """Return a name as MLflow takes them.

    Example:
        >>> _allowed("fgsm(epsilons=[0.1])/accuracy")
        'fgsm_epsilons__0.1__/accuracy'
    """
    return _NOT_ALLOWED.sub("_", name)
