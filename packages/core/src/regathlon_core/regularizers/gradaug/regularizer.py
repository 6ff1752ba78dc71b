"""GradAug's training step and its ablations."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from regathlon_core.errors import UserError
from regathlon_core.passes import PassRole, run_as
from regathlon_core.regularizer import Regularizer
from regathlon_core.regularizers.gradaug.functional import sample_widths
from regathlon_core.regularizers.gradaug.settings import (
    GradAugSettings,
    RandDepthSettings,
    RandRotSettings,
    RandScaleSettings,
    RandWidthSettings,
)
from regathlon_core.settings import RegularizerSettings
from regathlon_core.subnetworks import subnetwork, subnetwork_depth
from regathlon_core.task import Batch, Task, View

S = TypeVar("S", bound=RegularizerSettings)


_Block = contextlib.AbstractContextManager[object]


class _TaughtPasses(Regularizer[S], abc.ABC):
    """A full pass on the batch, then passes of sub-networks on views of it, taught by the full pass's outputs.

    Subclasses say which widths (or other sub-networks) and which views. Every pass is backpropagated before the next begins, so
    memory is that of the largest. Sub passes normalise by the statistics of their own batch and store none, unless
    ``role`` says otherwise.
    """

    role = PassRole.SUB

    def losses(
        self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the full network's loss, then each sub-network's distance to the full network's outputs."""
        outputs = task.predict(model, batch)
        yield task.criterion(outputs, batch)
        reference = tree_map_only(Tensor, Tensor.detach, outputs)
        del outputs
        yield from self._lessons(model, batch, reference, task, generator, self._taught_by(task))

    def _taught_by(self, task: Task) -> Literal["soft", "hard"]:
        return "soft"

    def _lessons(
        self,
        model: nn.Module,
        batch: Batch,
        reference: Any,
        task: Task,
        generator: torch.Generator,
        taught_by: Literal["soft", "hard"] = "soft",
    ) -> Iterator[Tensor]:
        """Yield what each sub-network has yet to learn of the full network's outputs, or of the labels."""
        views = self._views(batch, task, generator)
        for sub_network in self._sub_networks(model, task, generator):
            view = next(views)
            _check_samples(batch, view)
            with run_as(model, self.role), sub_network:
                taught = task.predict(model, view.batch)
            if taught_by == "hard":
                yield task.criterion(taught, view.batch)
            else:
                yield task.soft_loss(taught, view.align(reference))

    @abc.abstractmethod
    def _sub_networks(self, model: nn.Module, task: Task, generator: torch.Generator) -> Iterator[_Block]:
        """Yield the blocks in which the model is a sub-network, one for every pass."""

    @abc.abstractmethod
    def _views(self, batch: Batch, task: Task, generator: torch.Generator) -> Iterator[View]:
        """Yield what the sub-networks see."""


def _check_samples(batch: Batch, view: View) -> None:
    before, after = batch.targets, view.batch.targets
    if isinstance(before, Tensor) and len(after) != len(before):
        raise UserError(
            f"A view has {len(after)} samples and the batch that it was made of {len(before)}: what the full network "
            "says of one sample cannot be taught on another. Make views(batch, ...) keep all samples, in order."
        )


def _narrowed(model: nn.Module, task: Task, widths: Sequence[float], divisor: int) -> Iterator[_Block]:
    part, layers = task.narrowed(model)
    for width in widths:
        yield subnetwork(part, width, output_layers=layers, divisor=divisor, defer_gradients=True)


def _full(count: int) -> Iterator[_Block]:
    for _ in range(count):
        yield contextlib.nullcontext()


class GradAug(_TaughtPasses[GradAugSettings]):
    """Train sub-networks of random width on transformed views with soft labels from the full network.

    In a step the full network learns from the labels; its outputs, detached, are then the soft labels of
    ``n`` sub-networks, the first channels of the full one, each on a view of its own. All terms have weight
    1. The widest comes first; one sub-network has the smallest width ``alpha`` (if there are two or more),
    the others' widths are uniform in [alpha, 1].

    Source: Yang, Zhu, Chen: GradAug: A New Regularization Method for Deep Neural Networks, NeurIPS 2020,
    arXiv:2006.07989, Algorithm 1 and Section 3.1. The authors' code: https://github.com/taoyang1122/GradAug.

    Deviations: (1) a pass's role, not its width, decides that batch-norm stores nothing, so a sub-network
    that happens to have width 1 stores nothing either; (2) with ``n=1`` the width is random, as the paper
    says, while the code takes ``alpha`` (``always_min=True``).

    Example:
        >>> from regathlon_core import Budget, GradAug, Recipe, fit
        >>> from regathlon_core.testing import ToyImages
        >>> task = ToyImages()
        >>> result = fit(task.model(seed=0), task, GradAug(n=2), Recipe(budget=Budget(steps=2)))
        >>> result.cost.steps
        2
    """

    Settings = GradAugSettings

    def __init__(self, settings: GradAugSettings | None = None, /, **keywords: Any) -> None:
        super().__init__(settings, **keywords)
        self.role = PassRole.FULL if self.settings.sub_statistics else PassRole.SUB

    def _taught_by(self, task: Task) -> Literal["soft", "hard"]:
        return self.settings.labels or task.settings.taught_by

    def _sub_networks(self, model: nn.Module, task: Task, generator: torch.Generator) -> Iterator[_Block]:
        settings = self.settings
        widths = sample_widths(settings.n, settings.alpha, generator, always_min=settings.always_min)
        return _narrowed(model, task, widths, settings.divisor)

    def _views(self, batch: Batch, task: Task, generator: torch.Generator) -> Iterator[View]:
        return task.views(batch, generator, self.settings.views)


class RandScale(_TaughtPasses[RandScaleSettings]):
    """GradAug without sub-networks: the full network on randomly scaled views (Table 4 of the paper)."""

    Settings = RandScaleSettings

    def _sub_networks(self, model: nn.Module, task: Task, generator: torch.Generator) -> Iterator[_Block]:
        return _full(self.settings.n)

    def _views(self, batch: Batch, task: Task, generator: torch.Generator) -> Iterator[View]:
        return task.views(batch, generator, self.settings.kinds)


class RandRot(_TaughtPasses[RandRotSettings]):
    """GradAug without sub-networks: the full network on randomly rotated views."""

    Settings = RandRotSettings

    def _sub_networks(self, model: nn.Module, task: Task, generator: torch.Generator) -> Iterator[_Block]:
        return _full(self.settings.n)

    def _views(self, batch: Batch, task: Task, generator: torch.Generator) -> Iterator[View]:
        return task.views(batch, generator, self.settings.kinds)


class RandWidth(_TaughtPasses[RandWidthSettings]):
    """GradAug without views: sub-networks of random width on the batch as it is (Table 4 of the paper)."""

    Settings = RandWidthSettings

    def _sub_networks(self, model: nn.Module, task: Task, generator: torch.Generator) -> Iterator[_Block]:
        settings = self.settings
        widths = sample_widths(settings.n, settings.alpha, generator)
        return _narrowed(model, task, widths, settings.divisor)

    def _views(self, batch: Batch, task: Task, generator: torch.Generator) -> Iterator[View]:
        while True:
            yield View(batch)


class RandDepth(_TaughtPasses[RandDepthSettings]):
    """GradAug with sub-networks of random depth: residual blocks are left out instead of channels.

    Every sub-network draws which blocks it keeps, with a probability that falls linearly from 1 at the first to
    1-p at the last, and sees a transformed view of its own.

    Source: GradAug (arXiv:2006.07989), Table 6. The authors' code:
    https://github.com/taoyang1122/GradAug, ``models/resnet_randdepth.py``.

    Deviations: (1) sub-networks move no batch-norm statistics, as the paper says; those of the code do. (2)
    Evaluation is the plain model; the code multiplies its residual branches by their probability of being kept,
    although the full network is trained without.

    Example:
        >>> from regathlon_core import Budget, RandDepth, Recipe, fit
        >>> from regathlon_core.testing import ToyResidual
        >>> task = ToyResidual()
        >>> result = fit(task.model(seed=0), task, RandDepth(n=2), Recipe(budget=Budget(steps=2)))
        >>> result.cost.steps
        2
    """

    Settings = RandDepthSettings

    def _sub_networks(self, model: nn.Module, task: Task, generator: torch.Generator) -> Iterator[_Block]:
        for _ in range(self.settings.n):
            yield subnetwork_depth(model, 1 - self.settings.p, generator=generator)

    def _views(self, batch: Batch, task: Task, generator: torch.Generator) -> Iterator[View]:
        return task.views(batch, generator, self.settings.views)
