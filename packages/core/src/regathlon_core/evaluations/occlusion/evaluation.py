"""Robustness to occlusion."""

from __future__ import annotations

import functools
from collections import Counter

import torch
from torch import Tensor, nn

from regathlon_core.attribution import lrp, relevance_of_positions
from regathlon_core.errors import UserError
from regathlon_core.evaluation import Evaluation, Findings, Picture
from regathlon_core.evaluations.charts import BLUE, GREY, line_chart
from regathlon_core.evaluations.occlusion.settings import OcclusionSettings
from regathlon_core.evaluations.samples import spread_test_batches
from regathlon_core.ops.boxes import box_mask
from regathlon_core.task import Task


class Occlusion(Evaluation[OcclusionSettings]):
    """Accuracy on test samples parts of which are replaced by the modality's absent value.

    On two-dimensional grids a square of the given share, wholly inside, at a random place and around the most relevant
    pixel; elsewhere that share of single positions, at random and the most relevant ones. Metrics: ``clean``,
    ``random@0.1``, ``relevant@0.1``, ..., and the means ``random`` and ``relevant``.
    """

    def run(
        self, model: nn.Module, task: Task, *, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Findings:
        """Measure a model on the task's test split.

        Raises:
            UserError: The task has no test samples, or its inputs are graphs.
        """
        settings = self.settings
        right: Counter[str] = Counter()
        count = 0
        attribute = functools.partial(lrp, composite=settings.composite)

        def correct(name: str, where: Tensor | None) -> None:
            seen = batch if where is None else task.occlude(batch, where)
            with torch.no_grad():
                right[name] += int((task.predict(model, seen).argmax(1) == batch.targets).sum())

        for batch in spread_test_batches(task, settings.samples, device, batch_size=256):
            if task.graph_of_node(batch.inputs) is not None:
                raise UserError("Occlusion is for samples with positions of their own, not for graphs.")
            shape = task.attributed(batch.inputs)[:, 0].shape
            chance = torch.rand(shape, generator=generator).to(batch.targets.device)
            scores = {"random": chance}
            if settings.relevant:
                scores["relevant"] = relevance_of_positions(model, task, batch, generator, attribute)
            correct("clean", None)
            for share in settings.shares:
                for name, score in scores.items():
                    correct(f"{name}@{share:g}", _part(score, share))
            count += len(batch.targets)
        metrics = {name: number / count for name, number in right.items()}
        curves = []
        for name, colour in (("random", GREY), ("relevant", BLUE)):
            if name != "relevant" or settings.relevant:
                values = [metrics[f"{name}@{share:g}"] for share in settings.shares]
                metrics[name] = sum(values) / len(values)
                curves.append(([metrics["clean"], *values], colour))
        listed = ", ".join(f"{share:g}" for share in settings.shares)
        caption = (
            f"Accuracy (upwards, 0 to 1) with nothing and with shares of {listed} occluded, from left to right: at random "
            f"(grey){' and where it is most relevant (blue)' if settings.relevant else ''}."
        )
        return Findings(metrics, [Picture("accuracy", caption, line_chart(curves))])


def _part(score: Tensor, share: float) -> Tensor:
    """Return where to occlude: around the largest score, or the largest scores themselves."""
    if score.ndim != 3:
        flat = score.flatten(1)
        best = flat.topk(round(share * flat.shape[1]), dim=1).indices
        return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, best, True).view(score.shape)
    space = torch.tensor(score.shape[1:], device=score.device)
    side = (space * share**0.5).round().long().clamp(min=1)
    best = torch.stack(torch.unravel_index(score.flatten(1).argmax(1), score.shape[1:]), dim=1)
    start = (best - side // 2).clamp(min=0)
    start = torch.minimum(start, space - side)
    return box_mask(start, start + side, score.shape[1:])[:, 0]
