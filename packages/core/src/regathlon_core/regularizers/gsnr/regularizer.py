"""GSNR-guided dropout attached to a model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.ops.drop import drop_units, keep_scale
from regathlon_core.passes import PassRole, current_role
from regathlon_core.regularizers.gsnr.functional import gsnr_drop_block, sample_gsnr_block_mask
from regathlon_core.regularizers.gsnr.probe import ProbingRegularizer
from regathlon_core.regularizers.gsnr.settings import GSNRDropSettings
from regathlon_core.task import Batch, Task


class GSNRDrop(ProbingRegularizer[GSNRDropSettings]):
    """Drop the features whose gradients have the highest signal-to-noise ratio over the batch (DB+gsnr).

    In every step a probe pass on the same batch gives the gradient of the loss with respect to the features
    at every place, in one call; features whose gradients agree over the samples are the ones the model leans
    on in all of them, and blocks of these are dropped in the pass that trains. The mask is shared by the
    batch. Where positions mean nothing of their own (points, nodes), the statistics run over positions too,
    and whole channels are dropped.

    The probe pass moves no statistics, leaves no gradients, and has dropout off. A batch of one sample has no
    variance: nothing is dropped. In passes of another role than ``full`` (sub-networks on views) nothing is
    dropped, since a mask belongs to its batch.

    As a layer of one's own it does nothing: use ``regathlon_core.functional.gsnr_drop_block`` with gradients
    at hand.

    Source: Michalkiewicz et al.: Domain Generalization Guided by Gradient Signal to Noise Ratio of
    Parameters, ICCV 2023, arXiv:2310.07361; supplement, Listings 1 and 2. No code was published. Deviations:
    see ``gsnr_drop_block``; and batch-norm's statistics move once in a step, where the listing moves them
    twice.

    Example:
        >>> from regathlon_core import Budget, GSNRDrop, Recipe, fit
        >>> from regathlon_core.testing import ToyImages
        >>> task = ToyImages()
        >>> fit(task.model(seed=0), task, GSNRDrop(block_size=3), Recipe(budget=Budget(steps=2))).cost.steps
        2
    """

    Settings = GSNRDropSettings

    def __init__(self, settings: GSNRDropSettings | None = None, /, **keywords: Any) -> None:
        super().__init__(settings, **keywords)
        self._gradients: dict[str, Tensor] = {}

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Ask for the gradients at every place; the batch stays as it is."""
        super().transform(model, batch, task, generator)
        if self.settings.p > 0:
            self._gradients = self._probe(model, batch, task, generator.device, lend=True)
        return batch

    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        """Drop the blocks that the probe's gradients choose."""
        grads = self._gradients.get(place)
        if grads is None or len(grads) < 2 or current_role() is not PassRole.FULL:
            return x
        settings = self.settings
        if settings.variant == "listing" and grads.shape == x.shape:
            return gsnr_drop_block(
                x,
                grads,
                settings.p,
                settings.p_gsnr,
                settings.block_size,
                variant="listing",
                generator=generator,
            )
        dropped = sample_gsnr_block_mask(
            grads,
            settings.p,
            settings.p_gsnr,
            settings.block_size,
            ratio=settings.ratio,
            score=settings.score,
            generator=generator,
        )
        return drop_units(x, dropped, keep_scale(dropped))

    def after_step(self, progress: float) -> None:
        """Forget the step's gradients."""
        super().after_step(progress)
        self._gradients = {}

    def detach(self) -> None:
        """Remove the hooks and forget the gradients."""
        super().detach()
        self._gradients = {}
