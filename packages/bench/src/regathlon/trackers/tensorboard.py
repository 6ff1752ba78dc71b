"""TensorBoard."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from regathlon.results import Outcome


class TensorBoard:
    """Event files, one folder per trial; shown by ``tensorboard --logdir DIR/tensorboard``."""

    needs: ClassVar[str] = "tensorboard"

    def __init__(self, target: str | None, folder: Path, suite: str) -> None:
        self._root = Path(target) if target else folder / "tensorboard"
        self._writers: dict[str, Any] = {}

    def begin(self, cell: Mapping[str, Any]) -> str:
        """Write the description as text."""
        name = str(cell["folder"])
        description = "\n".join(f"    {key}: {value}" for key, value in cell.items() if key != "description")
        self._writer(name).add_text("trial", description)
        return name

    def record(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Write scalars."""
        writer = self._writer(name)
        for key, value in values.items():
            writer.add_scalar(key, value, step)
        writer.flush()

    def end(self, name: str, outcome: Outcome, values: Mapping[str, float]) -> None:
        """Write the status as text, and what is known at the end as scalars."""
        self.record(name, int(outcome.cost.get("steps") or 0), values)
        self._writer(name).add_text("status", f"{outcome.status} {outcome.reason or ''}".strip())
        self._writers.pop(name).close()

    def _writer(self, name: str) -> Any:
        """Return the trial's writer; one file per trial, and open only while the trial is at work."""
        if name not in self._writers:
            writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
            self._writers[name] = writer(str(self._root / name))
        return self._writers[name]
