"""Disout as a layer, or attached to a model."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from regathlon_core.features import FeaturePoint, Grouping
from regathlon_core.passes import PassRole, current_role
from regathlon_core.regularizer import FeatureRegularizer
from regathlon_core.regularizers.disout.functional import disout, sample_channel_weights
from regathlon_core.regularizers.disout.readers import Reader, find_readers
from regathlon_core.regularizers.disout.settings import DisoutSettings

if TYPE_CHECKING:
    from regathlon_core.task import Task


class Disout(FeatureRegularizer[DisoutSettings]):
    """Replace blocks of feature maps by noise, in training only. See ``regathlon_core.functional.disout``.

    The noise in a channel is as large as the next layer's weights for it make it count. Attached, the next layer
    of every place is the first convolution or linear layer that reads the map, found by following it through the
    model's first pass; where there is none, as in a layer of one's own, 0.01 stands for its weights. The share of
    distorted units rises linearly over the training unless ``schedule="constant"``; in a layer of one's own it
    is constant.

    Source: Tang, Wang, Xu, Shi, Xu, Xu: Beyond Dropout: Feature Map Distortion to Regularize Deep Neural Networks,
    AAAI 2020, arXiv:2002.11022, algorithm 1. The authors' code: https://github.com/huawei-noah/Disout.

    Deviations: (1) the code takes the next layer in the order of modules, which breaks for branches; (2) the
    weights are constants here: the noise sends them no gradient; (3) linear layers count, as kernels of one
    position.

    Example:
        >>> layer = Disout(p=0.3, block_size=3)
        >>> x = torch.randn(2, 4, 8, 8)
        >>> layer(x).shape, layer.eval()(x) is x
        (torch.Size([2, 4, 8, 8]), True)
    """

    Settings = DisoutSettings

    def __init__(self, settings: DisoutSettings | None = None, /, **keywords: object) -> None:
        super().__init__(settings, **keywords)
        self._points: Sequence[FeaturePoint] = ()
        self._readers: Mapping[str, Reader] | None = None

    def prepare(self, points: Sequence[FeaturePoint]) -> None:
        """Remember the places, whose readers the first pass shows."""
        self._points, self._readers = points, None

    def attach(
        self, model: nn.Module, task: Task | None = None, *, points: Sequence[FeaturePoint] | None = None
    ) -> None:
        """Hook the places to act at, and the model's first pass.

        Raises:
            UserError: It is attached already, or no place matches (it would have no effect).
        """
        super().attach(model, task, points=points)
        self._hooks.append(model.register_forward_pre_hook(self._find_readers, with_kwargs=True))

    def detach(self) -> None:
        """Remove the hooks."""
        super().detach()
        self.prepare(())

    def schedule(self, progress: float) -> float:
        """Return the share of the full rate."""
        return progress if self.settings.schedule == "linear" else 1.0

    def grouping(self) -> Grouping:
        """Blocks belong to a sample, single units do not; the deviation is that of the batch."""
        return "node" if self.settings.block_size == 1 else "batch"

    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        """Return the features with blocks distorted."""
        settings = self.settings
        if settings.p == 0:
            return x
        reader = (self._readers or {}).get(place)
        weights = None
        if reader is not None and reader.channels == x.shape[1]:  # else a module that runs in several places
            weights = reader.of_map(sample_channel_weights(reader.weight, reader.groups, generator=generator))
        return disout(
            x,
            settings.p * self.rate(place) * self.strength,
            settings.alpha,
            settings.block_size,
            weights=weights,
            present=self.present,
            generator=generator,
        )

    def _find_readers(self, model: nn.Module, args: Any, kwargs: Any) -> None:
        if self._readers is None and model.training and current_role() in (PassRole.FULL, PassRole.SUB):
            run = functools.partial(model.forward, *args, **kwargs)
            self._readers = find_readers(model, self._points, run)
