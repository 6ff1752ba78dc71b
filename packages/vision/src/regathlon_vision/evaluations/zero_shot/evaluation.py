"""ImageNet-A, -R and -O."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.evaluation import Evaluation, Findings
from regathlon_core.task import Task
from regathlon_data import data_root
from regathlon_vision.base import ImageTask
from regathlon_vision.evaluations.folders import images_of_classes, inputs_of, pixel_task
from regathlon_vision.evaluations.zero_shot.settings import ZeroShotSettings


class ZeroShot(Evaluation[ZeroShotSettings]):
    """Evaluate a classifier on further images of its classes, and on images of none of them.

    For every folder, ``<folder>/accuracy`` among the classes that the folder has (200 in ImageNet-A and -R): the logits
    of the others do not count. For outliers, ``<folder>/aupr``: the area under the precision-recall curve of telling
    them from the test images of the classes they are filed under, by how unsure the model is (one less the largest
    probability among those classes); ``<folder>/share`` of outliers is what chance would reach.

    Source: Hendrycks et al., "Natural adversarial examples", CVPR 2021 (A and O); Hendrycks et al., "The many faces of
    robustness", ICCV 2021 (R).
    """

    def run(
        self, model: nn.Module, task: Task, *, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Findings:
        """Measure a model.

        Raises:
            UserError: A folder is missing or holds other classes, or a file is damaged.
        """
        images = pixel_task(task)
        root = data_root(self.data)
        metrics = {}
        for name in self.settings.folders:
            listing, classes = images_of_classes(root / name, task.classes)
            right = 0
            for index, inputs in inputs_of(images, listing.paths):
                predicted = classes[_probabilities(model, inputs.to(device), classes).argmax(1)]
                right += int((predicted == listing.labels[index]).sum())
            metrics[f"{name}/accuracy"] = right / len(listing.paths)
        if self.settings.outliers:
            name = self.settings.outliers
            listing, classes = images_of_classes(root / name, task.classes)
            outliers = torch.cat(
                [_unsure(model, inputs.to(device), classes) for _, inputs in inputs_of(images, listing.paths)]
            )
            usual = self._usual(model, images, classes, device)
            labels = torch.cat([torch.ones(len(outliers)), torch.zeros(len(usual))]).bool()
            metrics[f"{name}/aupr"] = average_precision(torch.cat([outliers, usual]), labels)
            metrics[f"{name}/share"] = float(labels.double().mean())
        return Findings(metrics)

    def _usual(
        self, model: nn.Module, task: ImageTask, classes: Tensor, device: torch.device | str
    ) -> Tensor:
        scores = []
        for index in task.evaluation_order("test", 64):
            batch = task.batch("test", index)
            kept = torch.isin(batch.targets, classes)
            if bool(kept.any()):
                scores.append(_unsure(model, batch.inputs[kept].to(device), classes))
        if not scores:
            raise UserError(f"{task.settings.name} has no test images of the outliers' classes.")
        return torch.cat(scores)


def average_precision(scores: Tensor, positive: Tensor) -> float:
    """Return the area under the precision-recall curve: Σ_n (R_n - R_{n-1}) P_n over falling thresholds.

    Args:
        scores: [N]; equal ones pass a threshold together.
        positive: bool [N], at least one of them true.

    Example:
        >>> average_precision(torch.tensor([0.9, 0.8, 0.1]), torch.tensor([True, False, True]))
        0.8333333333333333
    """
    order = scores.argsort(descending=True, stable=True)
    ordered, hit = scores[order], positive[order].double()
    last = torch.ones_like(hit, dtype=torch.bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    found = hit.cumsum(0)
    precision = (found / torch.arange(1, len(hit) + 1, dtype=torch.float64))[last]
    recall = (found / found[-1])[last]
    return float((torch.diff(recall, prepend=recall.new_zeros(1)) * precision).sum())


def _probabilities(model: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(inputs)
    return logits.double()[:, classes.to(logits.device)].softmax(1).cpu()


def _unsure(model: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
    return 1 - _probabilities(model, inputs, classes).amax(1)
