"""Writes a run directory as if its trials had been trained: of any size, with logs, curves and pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ENVIRONMENT = {
    "python": "3.12.1",
    "torch": "2.15.0",
    "device": "cpu",
    "cpu": "A processor",
    "threads": 1,
    "platform": "Linux",
    "host": "somewhere",
    "packages": {"regathlon": "0.1.0", "regathlon-core": "0.1.0", "numpy": "2.4.6", "torch": "2.15.0"},
}
RECIPE = {
    **{"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0005},
    **{"schedule": "cosine", "milestones": [0.5, 0.75], "gamma": 0.1, "min_lr": 0.0, "warmup": 0.0},
    **{"clip_norm": None, "batch_size": 128, "precision": "fp32", "eval_every": 1},
}


def write_run(
    folder: Path,
    tasks: Sequence[str],
    regularizers: Sequence[str],
    seeds: int,
    *,
    epochs: int = 20,
    pictures: int = 0,
    side: int = 96,
    log_lines: int = 20,
    failed: Sequence[tuple[str, str, int]] = (),
    skipped: Sequence[tuple[str, str]] = (),
    reason: str = "RuntimeError: it went wrong",
    title: str = "Synthetic",
) -> Path:
    """Write a run.

    Args:
        folder: The run directory to make.
        tasks: Names.
        regularizers: Names; each is a little better than the one before.
        seeds: How many.
        epochs: Records in every trial's history.
        pictures: Number per trial.
        side: Of a picture, in pixels.
        log_lines: Of every log.
        failed: Trials (task, regularizer, seed) that failed.
        skipped: Cells (task, regularizer) that cannot run.
        reason: Why they failed or were skipped.
        title: Of the suite.

    Returns:
        The folder.
    """
    rng = np.random.default_rng(0)
    cells: list[dict[str, Any]] = []
    for seed in range(seeds):
        for number, task in enumerate(tasks):
            for place, regularizer in enumerate(regularizers):
                names = {"task": task, "dataset": "made", "model": "mlp"}
                names |= {"regularizer": regularizer, "seed": seed}
                if (task, regularizer) in skipped:
                    cells.append({"status": "skipped", "reason": reason, **names})
                    continue
                cell = _cell(names, epochs)
                cells.append({"status": "planned", **cell})
                at = folder / "trials" / cell["folder"]
                at.mkdir(parents=True)
                (at / "trial.json").write_text(json.dumps(cell))
                (at / "log.txt").write_text(_log(log_lines))
                result: dict[str, Any] = {"format": 1, "id": cell["id"], "environment": ENVIRONMENT}
                if (task, regularizer, seed) in failed:
                    result |= {"status": "failed", "reason": reason}
                else:
                    level = 0.6 + 0.02 * number + 0.01 * place + 0.005 * seed
                    result |= _measured(level + 0.004 * float(rng.standard_normal()), place, epochs, rng)
                    _draw(at / "pictures", pictures, side, rng)
                (at / "result.json").write_text(json.dumps(result))
    plan = {"suite": "synthetic", "title": title, "selection": "last", "cells": cells}
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "suite.yaml").write_text(f"seeds: {seeds}\nbudget: {{epochs: {epochs}}}\nrecipe: {{lr: 0.1}}\n")
    return folder


def _cell(names: dict[str, Any], epochs: int) -> dict[str, Any]:
    parts = [
        {"name": part.partition("(")[0], "version": 1, "settings": {"p": 0.1, "where": []}}
        for part in names["regularizer"].split("+")
    ]
    description = {
        "protocol": 1,
        "task": {"name": names["task"].partition("(")[0], "version": 1, "settings": {}},
        "dataset": {"name": "made", "version": 1},
        "model": {"name": "mlp", "version": 1, "settings": {"width": 16}},
        "regularizer": parts,
        "recipe": {**RECIPE, "budget": {"epochs": epochs, "steps": None}},
        "seed": names["seed"],
    }
    identity = hashlib.sha256(json.dumps([description, names]).encode()).hexdigest()[:16]
    metric = {"metric": "accuracy", "lower_is_better": False}
    return {"id": identity, "folder": f"trial.{identity}", **names, **metric, "description": description}


def _measured(level: float, place: int, epochs: int, rng: np.random.Generator) -> dict[str, Any]:
    noise = 0.005 * rng.standard_normal(epochs)
    history = [
        {
            "epoch": epoch,
            "step": 10 * epoch,
            "train_loss": float(2 * np.exp(-4 * epoch / epochs) + abs(noise[epoch - 1])),
            "lr": 0.1,
            "seconds": float(epoch),
            "val": {
                "accuracy": float(level * (1 - np.exp(-5 * epoch / epochs)) + noise[epoch - 1]),
                "class_accuracy": level,
            },
            "test": {},
        }
        for epoch in range(1, epochs + 1)
    ]
    metrics = {"accuracy": level, "class_accuracy": level - 0.01, "cross_entropy": 1 - level}
    chosen = {"epoch": epochs, "val": metrics, "test": metrics}
    return {
        "status": "done",
        "reason": None,
        "selections": {"last": chosen, "best_val": chosen, "oracle": chosen},
        "history": history,
        "cost": {
            "train_seconds": 10.0 + place,
            "step_seconds": 0.01,
            "peak_memory_mb": 100.0 + place,
            "train_flops": 1e9 * (1 + 0.2 * place),
            "steps": 10 * epochs,
        },
        "wall_seconds": 12.0 + place,
        "finished": "2026-01-01T00:00:00+00:00",
    }


def _log(lines: int) -> str:
    return "".join(
        f"2026-01-01 00:00:{n % 60:02d},000 INFO regathlon.worker: line {n}\n" for n in range(lines)
    )


def _draw(folder: Path, count: int, side: int, rng: np.random.Generator) -> None:
    if not count:
        return
    folder.mkdir()
    ramp = np.linspace(0, 255, side)
    for number in range(count):
        image = np.stack([ramp[None] * np.ones((side, 1)), ramp[:, None] * np.ones((1, side))], axis=-1)
        blue = np.full((side, side, 1), 40 * number % 256) + rng.integers(0, 30, (side, side, 1))
        rgb = np.concatenate([image, blue], axis=-1).clip(0, 255).astype(np.uint8)
        Image.fromarray(rgb).save(folder / f"sample-{number}.png")
