"""What every task of classifying point clouds has in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.features import FeaturePoint
from regathlon_core.metrics import ConfusionMetrics, Metrics
from regathlon_core.rng import SampleDraw
from regathlon_core.settings import TaskSettings
from regathlon_core.task import Batch, Split, Task, View
from regathlon_points.classification.augmentation import Augmentation, rescale, turn

_SCALE = (2 / 3, 3 / 2)  # of views; the factor's logarithm is uniform
_FEWEST_POINTS = 0.5  # share of the points that a view keeps at least


class PointClassification(Task):
    """One label for each cloud of points [B, C, N], whose first three channels are x, y and z (up).

    Evaluation sees clouds as they are; with ``votes`` above 1, as often turned about the up axis by equal
    angles, and the probabilities are averaged. What is occluded lies at the origin, in all channels.

    Args:
        settings: The declaration that built it.
        classes: Names of the classes.
        splits: Clouds, float32 [B, C, N], and labels, int64 [B], of each split; a missing one has no samples.
        augmentation: What happens to training clouds.
        votes: How many turns of a cloud vote on its class, at least 1.

    Raises:
        UserError: A label is none of the classes.
    """

    def __init__(
        self,
        settings: TaskSettings,
        classes: tuple[str, ...],
        splits: Mapping[Split, tuple[Tensor, Tensor]],
        *,
        augmentation: Augmentation,
        votes: int = 1,
    ) -> None:
        super().__init__(settings)
        for split, (_, labels) in splits.items():
            if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
                raise UserError(
                    f"{settings.name}: a label of the {split} split is none of the {len(classes)} classes "
                    f"(labels reach from {int(labels.min())} to {int(labels.max())})."
                )
        self._classes = classes
        self._splits = splits
        self._augmentation = augmentation
        self._votes = votes

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self._classes

    @property
    def in_channels(self) -> int:
        """Channels of a point: its three coordinates, and what the data has more."""
        return self._splits["train"][0].shape[1]

    def size(self, split: Split) -> int:
        """Return the number of clouds in a split."""
        return len(self._splits[split][1]) if split in self._splits else 0

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        """Return clouds [B, C, N] and labels [B]; augmented where there is a draw."""
        clouds, labels = (part[index] for part in self._splits[split])
        if draw is not None:
            clouds = self._augmentation(clouds, index, draw)
        return Batch(clouds, labels, index=index)

    def metrics(self) -> Metrics:
        """Return accuracy over clouds and over classes."""
        return ConfusionMetrics(len(self.classes))

    def evaluate(
        self, model: nn.Module, split: Split, *, batch_size: int = 256, device: torch.device | str = "cpu"
    ) -> Mapping[str, float]:
        """Return the metrics of a model on a split; see ``Task.evaluate`` and ``votes``."""
        if self._votes == 1:
            return super().evaluate(model, split, batch_size=batch_size, device=device)
        return super().evaluate(_Voting(model, self._votes), split, batch_size=batch_size, device=device)

    def features(self, model: nn.Module) -> Sequence[FeaturePoint]:
        """Return the places that the model names, channels first: [B, C, N]."""
        points: Sequence[FeaturePoint] = self._asked(model, "feature_points")
        return points

    def output_layers(self, model: nn.Module) -> Sequence[str]:
        """Return the names of the layers that make the logits."""
        names: Sequence[str] = self._asked(model, "output_layers")
        return names

    def views(self, batch: Batch, generator: torch.Generator, kinds: Sequence[str] = ()) -> Iterator[View]:
        """Yield clouds that are scaled, turned about the up axis, or lack some points, as ``kinds`` say.

        ``"scale"`` and ``"rotation"`` are drawn for each cloud; ``"subsample"`` leaves all clouds the same
        random number of their points, at least half of them.
        """
        kinds = self.view_kinds(kinds)
        while True:
            clouds = batch.inputs
            for kind in kinds:
                clouds = _VIEWS[kind](clouds, generator)
            yield View(batch.replace(inputs=clouds))

    def occlude(self, batch: Batch, where: Tensor) -> Batch:
        """Set points to zero in all channels; ``where`` is bool [B, N]."""
        return batch.replace(inputs=batch.inputs.masked_fill(where[:, None], 0.0))

    def _asked(self, model: nn.Module, method: str) -> Any:
        if not hasattr(model, method):
            raise UserError(
                f"{type(model).__name__} has no method {method}(), by which {self.settings.name} learns "
                f"where its features and outputs are. Write one like that of regathlon_points.PointNet."
            )
        return getattr(model, method)()


class _Voting(nn.Module):
    """Averages a model's probabilities over turns about the up axis; returns their logarithms."""

    def __init__(self, model: nn.Module, votes: int) -> None:
        super().__init__()
        self.model, self.votes = model, votes

    def forward(self, clouds: Tensor) -> Tensor:
        probabilities = sum(
            self.model(turn(clouds, clouds.new_full((len(clouds),), vote / self.votes))).softmax(dim=1)
            for vote in range(self.votes)
        )
        assert isinstance(probabilities, Tensor)
        return (probabilities / self.votes).log()


def _scale(clouds: Tensor, uniform: Tensor) -> Tensor:
    low, high = (math.log(bound) for bound in _SCALE)
    return rescale(clouds, (low + (high - low) * uniform).exp()[:, None])


def _uniform(clouds: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(len(clouds), generator=generator, device=generator.device).to(clouds.device)


def _subsample(clouds: Tensor, generator: torch.Generator) -> Tensor:
    """Keep the same random points of every cloud, whose points have no order."""
    count = clouds.shape[2]
    fewest = math.ceil(_FEWEST_POINTS * count)
    kept = int(torch.randint(fewest, count + 1, (), generator=generator, device=generator.device))
    chosen = torch.randperm(count, generator=generator, device=generator.device)[:kept]
    return clouds[:, :, chosen.to(clouds.device)]


_VIEWS: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = MappingProxyType(
    {
        "scale": lambda clouds, generator: _scale(clouds, _uniform(clouds, generator)),
        "rotation": lambda clouds, generator: turn(clouds, _uniform(clouds, generator)),
        "subsample": _subsample,
    }
)
