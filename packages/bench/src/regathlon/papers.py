"""What the papers printed: the files in ``benchmarks/paper_numbers`` and of other packages."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regathlon import plugins, yaml_text
from regathlon_core.errors import UserError

COLUMNS = (
    *("table", "task", "dataset", "model", "method", "metric", "value", "std"),
    *("protocol", "regularizer", "misprint", "note"),
)


@dataclass(frozen=True)
class PaperNumber:
    """One number of a table.

    Attributes:
        table: As printed ("Table 3"), as are the next five.
        task: The kind of problem.
        dataset: The data.
        model: The network.
        method: The method.
        metric: What was measured.
        printed: The number with all its digits.
        std: Its spread over runs, in the same unit; None where none is printed.
        protocol: What the paper says of the training, by name.
        regularizer: The method as a suite would write it; None where it is not implemented here.
        misprint: What is known to be wrong with the number; empty for most.
        note: Anything else.
    """

    table: str
    task: str
    dataset: str
    model: str
    method: str
    metric: str
    printed: str
    std: float | None
    protocol: Mapping[str, str]
    regularizer: str | None
    misprint: str
    note: str

    @property
    def value(self) -> float:
        """The number."""
        return float(self.printed)


@dataclass(frozen=True)
class PaperMetric:
    """How a printed metric is made of ours: offset + scale · metric.

    Attributes:
        name: Our metric.
        scale: To the paper's unit.
        offset: Likewise.
        split: Which split it is on.
        task: Settings of the task that the number is of.
        mean_over: The task setting over whose values the number is an average; empty for one task alone.
        margin: How far apart two numbers may be and still be the same, in the paper's unit.
    """

    name: str
    scale: float = 1.0
    offset: float = 0.0
    split: str = "test"
    task: Mapping[str, Any] | None = None
    mean_over: str = ""
    margin: float = 0.5


@dataclass(frozen=True)
class Paper:
    """A paper's numbers and what they are called here.

    Attributes:
        name: Short name.
        title: Full title.
        card: The regularizer whose card cites it.
        datasets: Manifests by printed name: the whole data set, then parts of it.
        models: A suite's notation by printed name, or by name and method (``ResNet-50@Bag of tricks``) where a method has a
            model of its own.
        metrics: By printed name, or by name and data set (``mIoU@MoNuSeg``) where one name has two meanings.
        numbers: All that it printed.
    """

    name: str
    title: str
    card: str
    datasets: Mapping[str, tuple[str, ...]]
    models: Mapping[str, str]
    metrics: Mapping[str, PaperMetric]
    numbers: tuple[PaperNumber, ...]

    def model(self, number: PaperNumber) -> str | None:
        """Return a number's model in a suite's notation; None where we have none."""
        return self.models.get(f"{number.model}@{number.method}") or self.models.get(number.model)

    def metric(self, number: PaperNumber) -> PaperMetric | None:
        """Return what a number is made of here; None where we measure nothing like it."""
        return self.metrics.get(f"{number.metric}@{number.dataset}") or self.metrics.get(number.metric)


@functools.cache
def papers() -> tuple[Paper, ...]:
    """Return all papers whose numbers are installed, by name.

    Raises:
        UserError: A file is damaged.
    """
    return tuple(read_paper(path) for path in plugins.packaged_files("paper", "*.yaml").values())


def read_paper(path: Path) -> Paper:
    """Read a paper's YAML file and the CSV file beside it.

    Raises:
        UserError: One of them is damaged.
    """
    found: Any = yaml_text.read(path.read_text(encoding="utf-8"), str(path)).value
    try:
        return Paper(
            name=found["paper"],
            title=found["title"],
            card=found["card"],
            datasets={printed: tuple(ours) for printed, ours in found["datasets"].items()},
            models=dict(found["models"]),
            metrics={printed: PaperMetric(**ours) for printed, ours in found["metrics"].items()},
            numbers=tuple(_numbers(path.with_suffix(".csv"))),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise UserError(f"{type(error).__name__}: {error}", where=str(path)) from error


def _numbers(path: Path) -> Iterator[PaperNumber]:
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, strict=True):
            float(row["value"])
            yield PaperNumber(
                **{name: row[name] for name in COLUMNS[:6]},
                printed=row["value"],
                std=float(row["std"]) if row["std"] else None,
                protocol=_protocol(row["protocol"]),
                regularizer=row["regularizer"] or None,
                misprint=row["misprint"],
                note=row["note"],
            )


def _protocol(text: str) -> dict[str, str]:
    """Read what a paper says of its training.

    Example:
        >>> _protocol("epochs=200 lr=0.1")
        {'epochs': '200', 'lr': '0.1'}
    """
    return dict(word.split("=", 1) for word in text.split())
