"""Flipping curves."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from regathlon_core.attribution import gradient_x_input, lrp, relevance_of_positions
from regathlon_core.errors import UserError
from regathlon_core.evaluation import Evaluation, Findings, Picture
from regathlon_core.evaluations.charts import BLUE, GREY, ORANGE, line_chart
from regathlon_core.evaluations.flipping.settings import FlippingSettings
from regathlon_core.evaluations.samples import spread_test_batches
from regathlon_core.task import Batch, Task

_COLOURS = {"most": BLUE, "random": GREY, "least": ORANGE}


class Flipping(Evaluation[FlippingSettings]):
    """Occlude positions (pixels, points, tokens) portion by portion and watch the true class's probability.

    The most relevant positions go first, the least relevant ones, or any. The metrics are areas under the curves in
    [0, 1]: ``auc_most`` is small where relevance names what the model relies on, ``auc_least`` large;
    ``auc_random`` lies between; ``gap`` is ``auc_least - auc_most``. The picture shows the three.

    Source: Samek et al., "Evaluating the visualization of what a deep neural network has learned", IEEE TNNLS 2017,
    section III-C; the areas are those of trapezia. The absent value is the task's.
    """

    def run(
        self, model: nn.Module, task: Task, *, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Findings:
        """Measure a model on the task's test samples.

        Raises:
            UserError: The task has no test samples, or its inputs are graphs, whose nodes are no fixed positions.
        """
        totals: dict[str, Tensor] = {}
        count = 0
        for batch in spread_test_batches(task, self.settings.samples, device):
            if task.graph_of_node(batch.inputs) is not None:
                raise UserError(
                    "Flipping curves are for samples with positions of their own, not for graphs."
                )
            relevance = relevance_of_positions(model, task, batch, generator, self._attribute())
            flat = relevance.flatten(1)
            chance = torch.rand(flat.shape, generator=generator).to(flat.device)
            for name, score in (("most", flat), ("random", chance), ("least", -flat)):
                curve = self._curve(model, task, batch, score, relevance.shape)
                totals[name] = totals.get(name, 0) + curve.sum(0)
            count += len(batch.targets)
        curves = {name: (total / count).tolist() for name, total in totals.items()}
        areas = {f"auc_{name}": _area(curve) for name, curve in curves.items()}
        chart = line_chart([(curves[name], colour) for name, colour in _COLOURS.items()])
        caption = (
            "Mean probability of the true class (upwards, 0 to 1) over the share of positions that are occluded (0 to 1): "
            "most relevant first (blue), least relevant first (orange), at random (grey)."
        )
        return Findings(
            {**areas, "gap": areas["auc_least"] - areas["auc_most"]}, [Picture("curves", caption, chart)]
        )

    def _curve(self, model: nn.Module, task: Task, batch: Batch, score: Tensor, shape: torch.Size) -> Tensor:
        """Return the true class's probability with 0, 1, ... portions gone: float64 [B, steps + 1]."""
        steps = self.settings.steps
        order = score.argsort(dim=1, descending=True, stable=True)
        rank = torch.empty_like(order)
        rank.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
        points = []
        for step in range(steps + 1):
            gone = rank < round(order.shape[1] * step / steps)
            with torch.no_grad():
                logits = task.predict(model, task.occlude(batch, gone.view(shape)))
            probabilities = logits.double().softmax(dim=1)
            points.append(probabilities.gather(1, batch.targets[:, None])[:, 0].cpu())
        return torch.stack(points, dim=1)

    def _attribute(self) -> functools.partial[Tensor]:
        if self.settings.attribution == "lrp":
            return functools.partial(lrp, composite=self.settings.composite)
        return functools.partial(gradient_x_input)


def _area(curve: list[float]) -> float:
    """Return the area under values at equally spaced places in [0, 1]."""
    return float(torch.trapezoid(torch.tensor(curve, dtype=torch.float64))) / (len(curve) - 1)
