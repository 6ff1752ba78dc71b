"""Calibration: do predictions come true as often as they say?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.evaluation import Evaluation, Findings
from regathlon_core.evaluations.calibration.settings import CalibrationSettings
from regathlon_core.task import Task


class Calibration(Evaluation[CalibrationSettings]):
    """Expected calibration error, negative log-likelihood and Brier score of a classifier's probabilities.

    Every labelled position (sample, node, point or pixel) counts once. The metrics are ``ece`` in [0, 1], ``nll``
    in nats and ``brier`` in [0, 2]; small is good.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017, Eq. 3 (15 bins as there, without temperature).
    """

    def run(
        self, model: nn.Module, task: Task, *, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Findings:
        """Measure a model on the task's test split.

        Raises:
            UserError: The split has no labelled samples.
        """
        probabilities, targets = [], []
        with torch.no_grad():
            for index in task.evaluation_order("test", 256):
                batch = task.batch("test", index).to(device)
                logits = task.predict(model, batch).float()
                flat = logits.movedim(1, -1).reshape(-1, logits.shape[1])
                labels = batch.targets.flatten()
                counted = labels != task.ignore_index
                probabilities.append(F.softmax(flat[counted].double(), dim=1).cpu())
                targets.append(labels[counted].cpu())
        if not sum(len(part) for part in targets):
            raise UserError(f"{task.settings.name} has no labelled test samples to calibrate on.")
        p, y = torch.cat(probabilities), torch.cat(targets)
        return Findings(
            {
                "ece": expected_calibration_error(p, y, self.settings.bins),
                "nll": float(F.nll_loss(p.clamp_min(torch.finfo(p.dtype).tiny).log(), y)),
                "brier": float((p - F.one_hot(y, p.shape[1])).square().sum(dim=1).mean()),
            }
        )


def expected_calibration_error(probabilities: Tensor, targets: Tensor, bins: int = 15) -> float:
    """Return the distance of accuracy from confidence, averaged over bins by their share of samples.

    Args:
        probabilities: [N, K], rows sum to 1.
        targets: Labels, int64 [N].
        bins: Number of bins of equal width over (0, 1]; a bin holds its upper end.

    Example:
        >>> import torch
        >>> sure = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> expected_calibration_error(sure, torch.tensor([0, 1]))
        0.5
    """
    confidence, predicted = probabilities.double().max(dim=1)
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=confidence.device)[1:-1]
    which = torch.bucketize(confidence, edges)
    gap = torch.zeros(bins, dtype=torch.float64, device=confidence.device)
    gap.index_add_(0, which, (predicted == targets).double() - confidence)
    return float(gap.abs().sum() / len(targets))
