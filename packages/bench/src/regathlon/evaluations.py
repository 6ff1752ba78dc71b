"""What evaluations have left in a trial's folder. They are no part of the trial's identity.

Each evaluation, with its settings and version, has a file of its own: another one in the suite leaves those that
are there alone, and needs no training again as long as the trial's model was kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regathlon.files import read_json, write_json
from regathlon.store import TrialFolder
from regathlon_core.errors import UserError
from regathlon_core.settings import EvaluationSettings


@dataclass(frozen=True)
class Shown:
    """A picture that an evaluation has written.

    Attributes:
        path: The PNG file.
        caption: What is to be seen.
    """

    path: Path
    caption: str


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation has left.

    Attributes:
        name: As a suite writes it, with its settings.
        status: ``done`` or ``failed``.
        reason: Why it failed.
        metrics: Numbers by name; one that was not finite is None.
        pictures: In order.
    """

    name: str
    status: str
    reason: str | None
    metrics: Mapping[str, float | None]
    pictures: tuple[Shown, ...]


def record_file(at: TrialFolder, evaluation: EvaluationSettings) -> Path:
    """Return the file of an evaluation's findings."""
    description = json.dumps(evaluation.describe(), sort_keys=True)
    return at.evaluations / f"{evaluation.name}.{hashlib.sha256(description.encode()).hexdigest()[:8]}.json"


def pending(at: TrialFolder, evaluations: Iterable[EvaluationSettings]) -> list[EvaluationSettings]:
    """Return the evaluations that are not done: those that failed are tried again."""
    return [each for each in evaluations if not _done(record_file(at, each))]


def _done(path: Path) -> bool:
    try:
        found = read_json(path)
    except UserError:
        return False
    return found is not None and found.get("status") == "done"


def write_record(at: TrialFolder, evaluation: EvaluationSettings, findings: Mapping[str, Any]) -> None:
    """Write an evaluation's findings: ``status``, ``reason``, ``metrics``, ``pictures``, ``seconds``."""
    at.evaluations.mkdir(exist_ok=True)
    write_json(
        record_file(at, evaluation),
        {"name": str(evaluation), "description": evaluation.describe(), **findings},
    )


def read_evaluations(at: TrialFolder, names: Iterable[str] | None = None) -> tuple[Evaluated, ...]:
    """Return what evaluations have left in a trial's folder; damaged files count as not there.

    Args:
        at: The trial's folder.
        names: Of the evaluations to read, as the plan writes them; None for all.
    """
    wanted = None if names is None else set(names)
    found = []
    for path in sorted(at.evaluations.glob("*.json")):
        try:
            record = read_json(path) or {}
            name, metrics, pictures = str(record["name"]), record["metrics"], record["pictures"]
            if wanted is None or name in wanted:
                found.append(
                    Evaluated(
                        name=name,
                        status=str(record["status"]),
                        reason=record.get("reason"),
                        metrics={
                            str(key): None if value is None else float(value)
                            for key, value in metrics.items()
                        },
                        # By its bare name: what a file says never leads out of the trial's folder.
                        pictures=tuple(
                            Shown(at.pictures / Path(each["file"]).name, str(each["caption"]))
                            for each in pictures
                        ),
                    )
                )
        except (UserError, KeyError, TypeError, ValueError, AttributeError):
            continue
    return tuple(found)
