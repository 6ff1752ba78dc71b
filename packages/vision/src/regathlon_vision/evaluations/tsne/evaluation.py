"""A map of a classifier's features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regathlon_core.evaluation import Evaluation, Findings, Picture
from regathlon_core.evaluations.samples import spread
from regathlon_core.task import Task
from regathlon_vision.evaluations.drawing import palette
from regathlon_vision.evaluations.tasks import shown_split
from regathlon_vision.evaluations.tsne.settings import TsneSettings

_SIDE = 720
_MARGIN = 24
_RADIUS = 4


class Tsne(Evaluation[TsneSettings]):
    """Draw test samples where t-SNE puts their features; colours are true classes, black rings false predictions.

    Features are what the classifier's last linear layer reads. The metric ``silhouette`` in [-1, 1] says how much nearer
    they are to their own class than to the next, in the full space (scikit-learn's); NaN where there is one class.

    Source: van der Maaten & Hinton, Visualizing Data using t-SNE, JMLR 2008; scikit-learn's implementation.
    """

    def run(
        self, model: nn.Module, task: Task, *, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Findings:
        """Return the map."""
        from sklearn.manifold import TSNE  # type: ignore[import-untyped]
        from sklearn.metrics import silhouette_score  # type: ignore[import-untyped]

        split = shown_split(task)
        count = min(self.settings.samples, task.size(split))
        index = spread(count, task.size(split))
        features, labels, right = last_features(model, task, index, device)
        seed = int(torch.randint(2**31, (), generator=generator))
        perplexity = min(self.settings.perplexity, (count - 1) / 3)
        found = TSNE(perplexity=perplexity, init="random", random_state=seed).fit_transform(features.numpy())
        several = 1 < len(set(labels.tolist())) < count
        silhouette = float(silhouette_score(features.numpy(), labels.numpy())) if several else float("nan")
        caption = (
            f"t-SNE of the features of {count} {split} images; colours are classes, black rings are false predictions "
            f"({int((~right).sum())})"
        )
        picture = scatter(torch.from_numpy(found), palette(len(task.classes))[labels], ringed=~right)
        return Findings({"silhouette": silhouette}, [Picture("features", caption, picture)])


def last_features(
    model: nn.Module, task: Task, index: Tensor, device: torch.device | str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the last layer reads of test samples, their labels, and whether the prediction is right.

    Returns:
        float32 [N, C], int64 [N], bool [N], on the CPU.
    """
    layer = model.get_submodule(task.output_layers(model)[-1])
    read: list[Tensor] = []
    handle = layer.register_forward_pre_hook(
        lambda module, inputs: read.append(inputs[0].flatten(1).float().cpu())
    )
    labels, right = [], []
    model.eval()
    try:
        with torch.no_grad():
            for part in torch.split(index, 256):
                batch = task.batch(shown_split(task), part).to(device)
                predicted = task.predict(model, batch).argmax(dim=1)
                labels.append(batch.targets.cpu())
                right.append((predicted == batch.targets).cpu())
    finally:
        handle.remove()
    return torch.cat(read), torch.cat(labels), torch.cat(right)


def scatter(points: Tensor, colours: Tensor, *, ringed: Tensor) -> Tensor:
    """Draw points as discs on white.

    Args:
        points: [N, 2]: to the right, up.
        colours: uint8 [N, 3].
        ringed: Which have a black ring, bool [N].

    Returns:
        uint8 [3, 720, 720].
    """
    low, high = points.amin(dim=0), points.amax(dim=0)
    share = (points - low) / (high - low).clamp(min=1e-12)
    at = (_MARGIN + share * (_SIDE - 2 * _MARGIN - 1)).round().long()
    sheet = torch.full((3, _SIDE, _SIDE), 255, dtype=torch.uint8)
    steps = torch.arange(-_RADIUS - 1, _RADIUS + 2)
    distance = (steps[:, None] ** 2 + steps**2).float().sqrt()
    disc, ring = distance <= _RADIUS, (distance > _RADIUS - 1) & (distance <= _RADIUS + 1)
    for (column, up), colour, wrong in zip(at.tolist(), colours, ringed.tolist(), strict=True):
        row = _SIDE - 1 - up
        window = sheet[:, row - _RADIUS - 1 : row + _RADIUS + 2, column - _RADIUS - 1 : column + _RADIUS + 2]
        window[:, disc] = colour[:, None]
        if wrong:
            window[:, ring] = 0
    return sheet
