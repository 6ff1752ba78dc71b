"""Representation Self-Challenging attached to a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.features import FeaturePoint
from regathlon_core.passes import PassRole, current_role, run_as
from regathlon_core.regularizer import FeatureRegularizer
from regathlon_core.regularizers.rsc.functional import rsc_channels, rsc_pooled, rsc_positions, rsc_samples
from regathlon_core.regularizers.rsc.settings import RSCSettings
from regathlon_core.task import Batch, Task


class RSC(FeatureRegularizer[RSCSettings]):
    """Mute the features that the true class leans on most, in the samples that lose most by it.

    In every step a probe pass on the batch gives the features at one place and the gradients of the true
    classes' logits with respect to them. The positions (or channels) with the highest scores are muted in a
    second probe pass; the samples whose true class loses most probability keep the mask in the pass that
    trains. What is left is not rescaled.

    Of mixed labels, both classes count by their weight. In passes of another role than ``full`` nothing is
    muted, since a mask belongs to its batch. As a layer of one's own it does nothing: see
    ``regathlon_core.functional.rsc_positions``.

    Source: Huang, Wang, Xing, Huang: Self-Challenging Improves Cross-Domain Generalization, ECCV 2020,
    arXiv:2007.02454, Algorithm 1; the authors' code, https://github.com/DeLightCMU/RSC (``variant="map"``),
    and DomainBed's, https://github.com/facebookresearch/DomainBed (``variant="pooled"``).

    Deviations: (1) maps of any shape, where the authors' code needs 7x7; (2) never is a whole map muted, where
    that code fails on maps of one position; (3) the probe passes use the batch-norm statistics of the batch,
    as the pass that trains; (4) the curriculum goes by thirds of the training, theirs by ten epochs.

    Example:
        >>> from regathlon_core import RSC, Budget, Recipe, fit
        >>> from regathlon_core.testing import ToyImages
        >>> task = ToyImages()
        >>> fit(task.model(seed=0), task, RSC(), Recipe(budget=Budget(steps=2))).cost.steps
        2
    """

    Settings = RSCSettings

    _probing = False
    _features: Tensor | None = None
    _present: Tensor | None = None
    _muted: Tensor | None = None

    def usual(self, points: Sequence[FeaturePoint]) -> Sequence[FeaturePoint]:
        """Return the last of the task's default places."""
        return points[-1:]

    def prepare(self, points: Sequence[FeaturePoint]) -> None:
        """Refuse more than one place.

        Raises:
            UserError: ``where`` names several.
        """
        if len(points) > 1:
            names = ", ".join(point.name for point in points)
            raise UserError(
                f"rsc acts at one place; where={list(self.settings.where)} names {names}. Keep one of them."
            )

    def schedule(self, progress: float) -> float:
        """Return the share of samples to mute."""
        if self.settings.schedule == "constant" or self.settings.samples == 0:
            return self.settings.samples
        return 0.3 + 0.2 * min(int(3 * progress), 2)

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Find out what to mute; the batch stays as it is."""
        super().transform(model, batch, task, generator)
        share = float(self.strength)
        self._muted = self._choose(model, batch, task, generator, share) if share > 0 else None
        return batch

    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        """Mute what the probe passes chose."""
        if self._muted is None or len(self._muted) != len(x) or current_role() is not PassRole.FULL:
            return x
        return x.masked_fill(self._muted, 0.0)

    def after_step(self, progress: float) -> None:
        """Forget the step's mask and move the schedule on."""
        super().after_step(progress)
        self._muted = None

    def detach(self) -> None:
        """Remove the hooks and forget the mask."""
        super().detach()
        self._muted = None

    def _regularize(self, x: Tensor, place: str, present: Tensor | None = None) -> Tensor:
        if not self._probing:
            return super()._regularize(x, place, present)
        if self._muted is not None:
            return x.masked_fill(self._muted, 0.0)
        # A leaf: the gradient stops here, and nothing before it needs a graph.
        self._features, self._present = x.detach().requires_grad_(), present
        torch.set_grad_enabled(True)
        return self._features.view_as(x)  # no leaf, which the counting of operations cannot follow

    def _choose(
        self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator, share: float
    ) -> Tensor | None:
        """Return what to mute, bool like the features but for dimensions of 1; None for nothing."""
        device = batch.targets.device
        self._muted, self._probing = None, True
        try:
            with (
                run_as(model, PassRole.PROBE),
                torch.random.fork_rng([device] if device.type == "cuda" else []),
                torch.no_grad(),
            ):
                outputs = task.predict(model, batch)
                features = self._features
                if features is None or len(features) != len(outputs):
                    return None
                wanted = _class_weights(outputs.detach(), batch)
                (grads,) = torch.autograd.grad((outputs.flatten(1) * wanted).sum(), features)
                torch.set_grad_enabled(False)
                self._muted = muted = self._mask(features.detach(), grads, generator)
                after = task.predict(model, batch)
        finally:
            self._features = self._present = self._muted = None
            self._probing = False
        before, after = (
            (_wide(logits.flatten(1)).softmax(1) * wanted).sum(1) for logits in (outputs.detach(), after)
        )
        samples = rsc_samples(before, after, share, variant=self.settings.variant)
        return muted & samples.view(-1, *[1] * (features.ndim - 1))

    def _mask(self, x: Tensor, grads: Tensor, generator: torch.Generator) -> Tensor:
        settings = self.settings
        if settings.variant == "pooled":
            return rsc_pooled(grads, 1 / 3 if settings.channel is None else settings.channel)
        coin = torch.rand((), generator=generator, device=generator.device) < 0.5
        spatial = bool(coin) if settings.mode == "random" else settings.mode == "spatial"
        if spatial and x.ndim > 2:
            return rsc_positions(x, grads, settings.spatial, present=self._present)
        return rsc_channels(
            grads, 1 / 3.2 if settings.channel is None else settings.channel, present=self._present
        )


def _class_weights(outputs: Tensor, batch: Batch) -> Tensor:
    """Return 1 at the true class of each sample, or the weights of both where labels are mixed: [B, K]."""
    weights = torch.zeros_like(_wide(outputs.flatten(1)))
    if batch.mixed is None:
        return weights.scatter_(1, batch.targets[:, None], 1.0)
    own = batch.mixed.weight.to(weights.dtype)[:, None]
    weights.scatter_add_(1, batch.targets[:, None], own)
    return weights.scatter_add_(1, batch.mixed.targets[:, None], 1 - own)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
