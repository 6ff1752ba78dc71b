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

_SCALE = (2 / 3, 3 / 2)
_JITTER, _JITTER_LIMIT = 0.01, 0.05
_FEWEST_POINTS = 0.5  # share of the points that a view keeps at least


class PointClassification(Task):
    """One label for each cloud of points [B, C, N], whose first three channels are x, y and z (up).

    Training clouds are turned about the up axis, scaled by a factor between 2/3 and 3/2, and every coordinate
    is jittered by 0.01, at most 0.05; evaluation sees clouds as they are. What is occluded lies at the
    origin, in all channels.

    Args:
        settings: The declaration that built it.
        classes: Names of the classes.
        splits: Clouds, float32 [B, C, N], and labels, int64 [B], of each split; a missing one has no samples.
    """

    def __init__(
        self,
        settings: TaskSettings,
        classes: tuple[str, ...],
        splits: Mapping[Split, tuple[Tensor, Tensor]],
    ) -> None:
        super().__init__(settings)
        self._classes = classes
        self._splits = splits

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
            clouds = _augment(clouds, index, draw)
        return Batch(clouds, labels, index=index)

    def metrics(self) -> Metrics:
        """Return accuracy over clouds and over classes."""
        return ConfusionMetrics(len(self.classes))

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


def _augment(clouds: Tensor, index: Tensor, draw: SampleDraw) -> Tensor:
    clouds = _turn(clouds, draw.uniform(index, 1, purpose="turn")[:, 0])
    clouds = _scale(clouds, draw.uniform(index, 1, purpose="scale")[:, 0])
    count = clouds.shape[2]
    uniform = draw.uniform(index, 3 * count, purpose="jitter").view(-1, 3, count)
    # The normal distribution's inverse makes a normal of a uniform; clamping also takes the infinity at 0.
    jitter = _JITTER * math.sqrt(2) * torch.erfinv(2 * uniform - 1)
    moved = clouds[:, :3] + jitter.clamp(-_JITTER_LIMIT, _JITTER_LIMIT)
    return torch.cat([moved, clouds[:, 3:]], dim=1)


def _turn(clouds: Tensor, uniform: Tensor) -> Tensor:
    """Turn clouds [B, C, N] about z; uniform numbers [B] in [0, 1) become angles."""
    angle = (2 * math.pi * uniform)[:, None]
    cos, sin = angle.cos().to(clouds.dtype), angle.sin().to(clouds.dtype)
    x, y = clouds[:, 0], clouds[:, 1]
    return torch.cat([torch.stack([cos * x - sin * y, sin * x + cos * y], dim=1), clouds[:, 2:]], dim=1)


def _scale(clouds: Tensor, uniform: Tensor) -> Tensor:
    """Scale the coordinates of clouds [B, C, N]; the logarithm of the factor is uniform."""
    low, high = (math.log(bound) for bound in _SCALE)
    factor = (low + (high - low) * uniform).exp()[:, None, None].to(clouds.dtype)
    return torch.cat([clouds[:, :3] * factor, clouds[:, 3:]], dim=1)


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
        "rotation": lambda clouds, generator: _turn(clouds, _uniform(clouds, generator)),
        "subsample": _subsample,
    }
)
