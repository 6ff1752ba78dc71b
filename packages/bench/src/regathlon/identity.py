"""What makes a trial that trial: a hash of its scientific description, and of nothing else.

No path, host, worker count, order, device or log level goes in, so a trial that was run anywhere is known
everywhere, and adding a seed, method or data set to a suite leaves the other trials what they are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from regathlon_core.recipe import Recipe
from regathlon_core.settings import ModelSettings, RegularizerSettings, TaskSettings

PROTOCOL = 1
"""Raised when the engine itself changes numbers, which makes every trial another one."""


def describe_trial(
    task: TaskSettings,
    dataset_version: int | None,
    model: ModelSettings,
    regularizer: Sequence[RegularizerSettings],
    recipe: Recipe,
    seed: int,
) -> dict[str, Any]:
    """Return the scientific description of a trial, as plain data.

    Args:
        task: With its settings.
        dataset_version: The version in the data set's manifest.
        model: With its settings.
        regularizer: The composed parts; their order does not matter.
        recipe: As resolved.
        seed: Of everything random.
    """
    return {
        "protocol": PROTOCOL,
        "task": task.describe(),
        "dataset": {"name": task.dataset, "version": dataset_version},
        "model": model.describe(),
        "regularizer": sorted((part.describe() for part in regularizer), key=lambda part: str(part["name"])),
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
    }


def trial_id(description: Mapping[str, Any]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a description's canonical JSON.

    Example:
        >>> trial_id({"a": 1, "b": (2.0, None)}) == trial_id({"b": [2.0, None], "a": 1})
        True
    """
    canonical = json.dumps(description, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def folder_name(task: str, model: str, regularizer: str, seed: int, identity: str) -> str:
    """Return a readable folder name that ends in the trial's id.

    Example:
        >>> folder_name("vision/digits", "resnet8", "dropblock(p=0.2)", 0, "0123456789abcdef")
        'vision-digits.resnet8.dropblock-p-0.2.s0.0123456789abcdef'
    """
    readable = ".".join(_slug(part) for part in (task, model, regularizer))
    return f"{readable}.s{seed}.{identity}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+]+", "-", text).strip("-")[:48].rstrip("-")
