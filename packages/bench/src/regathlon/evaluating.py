"""Runs a finished trial's evaluations on its model. Imports torch; a worker calls it."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from regathlon.evaluations import record_file, write_record
from regathlon.store import TrialFolder
from regathlon_core.evaluation import Picture
from regathlon_core.rng import stream
from regathlon_core.settings import EvaluationSettings, ModelSettings
from regathlon_core.task import Task

logger = logging.getLogger(__name__)


def keep_model(at: TrialFolder, model: torch.nn.Module) -> None:
    """Write a model's weights into the trial's folder, at once or not at all."""
    temporary = at.model.with_name(f"{at.model.name}.{os.getpid()}.partial")
    torch.save(model.state_dict(), temporary)
    temporary.replace(at.model)


def evaluate(
    at: TrialFolder,
    evaluations: Iterable[EvaluationSettings],
    *,
    task: Task,
    model: ModelSettings,
    seed: int,
    data: Path | None,
    device: torch.device,
    stop: threading.Event,
) -> None:
    """Run evaluations one after another, each on a model of its own; one that fails leaves the others alone.

    Args:
        at: The trial's folder; it holds the model's weights.
        evaluations: Which ones.
        task: What the model was trained on.
        model: The model's declaration.
        seed: The trial's.
        data: Folder of downloaded data sets.
        device: Where.
        stop: Set from outside to have it stop between two evaluations.
    """
    for evaluation in evaluations:
        if stop.is_set():
            return
        started = time.monotonic()
        logger.info("evaluation %s", evaluation)
        try:
            trained = model.build(task)
            trained.load_state_dict(torch.load(at.model, map_location="cpu", weights_only=True))
            findings = evaluation.build(data).run(
                trained.to(device).eval(),
                task,
                generator=stream(seed, "evaluation", str(evaluation)),
                device=device,
            )
            record: dict[str, Any] = {
                "status": "done",
                "reason": None,
                "metrics": {name: float(value) for name, value in findings.metrics.items()},
                "pictures": [_write(at, evaluation, picture) for picture in findings.pictures],
            }
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            logger.error("evaluation %s failed: %s\n%s", evaluation, reason, traceback.format_exc())
            record = {"status": "failed", "reason": reason, "metrics": {}, "pictures": []}
        write_record(at, evaluation, {**record, "seconds": time.monotonic() - started})


def _write(at: TrialFolder, evaluation: EvaluationSettings, picture: Picture) -> dict[str, str]:
    at.pictures.mkdir(exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", picture.name)
    path = at.pictures / f"{record_file(at, evaluation).stem}.{name}.png"
    Image.fromarray(picture.image.permute(1, 2, 0).contiguous().cpu().numpy()).save(path, optimize=True)
    return {"file": path.name, "caption": picture.caption}
