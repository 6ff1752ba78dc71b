"""Meta-GSNR attached to a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.features import FeaturePoint
from regathlon_core.ops.block_mask import block_shape
from regathlon_core.ops.drop import drop_units, keep_scale
from regathlon_core.ops.sampling import sample_uniform
from regathlon_core.passes import PassRole, current_role, run_as
from regathlon_core.regularizers.domains import Borrowing, split_by_domain, virtual_step
from regathlon_core.regularizers.gsnr.functional import sample_gsnr_block_mask
from regathlon_core.regularizers.gsnr.probe import ProbingRegularizer
from regathlon_core.regularizers.meta_gsnr.functional import keep_factor, relaxed_blocks
from regathlon_core.regularizers.meta_gsnr.settings import MetaGSNRSettings
from regathlon_core.task import Batch, Task


class MetaGSNR(ProbingRegularizer[MetaGSNRSettings]):
    """GSNR-guided dropout that learns, for every place, how much to drop.

    Features are multiplied with M1·M2 over its mean: M1 zeroes the blocks of highest gradient signal-to-noise ratio (as
    ``gsnr`` does), M2 random blocks, both at the place's ratio p_max·sigmoid(phi). The ratio is learned through M2,
    relaxed: in every step (or every few) one domain v of the batch is drawn; the masked loss on the others makes a
    virtual gradient step of the weights, and phi follows, by an Adam of its own, the gradient of the plain loss on v
    after it. That gradient runs through second derivatives alone: ``"exact"`` by differentiating twice,
    ``"difference"`` by two more gradients on either side of the weights. The step that trains then draws new masks for the
    whole batch.

    Neither the virtual step nor the passes it takes move weights or statistics; the pass on v has no masks and no
    dropout. In passes of another role than ``full`` nothing is dropped. phi and its Adam are buffers.

    Source: Michalkiewicz et al.: Domain Generalization Guided by Gradient Signal to Noise Ratio of Parameters, ICCV 2023,
    arXiv:2310.07361. The supplement has the masks' ablation (Table 4: ``m1``, ``m2``) and no equations or code of the
    meta-learning: the relaxation, both losses and all rates are this project's reading, under which every row of that
    table is what it must be.

    Example:
        >>> from regathlon_core import Budget, MetaGSNR, Recipe, fit
        >>> from regathlon_core.testing import ToyDomains
        >>> task = ToyDomains()
        >>> regularizer = MetaGSNR(block_size=3)
        >>> fit(task.model(seed=0), task, regularizer, Recipe(budget=Budget(steps=2))).cost.steps
        2
        >>> regularizer.ratios().shape
        torch.Size([2])
    """

    Settings = MetaGSNRSettings

    phi: Tensor
    adam_mean: Tensor
    adam_square: Tensor
    adam_steps: Tensor
    steps: Tensor

    def __init__(self, settings: MetaGSNRSettings | None = None, /, **keywords: Any) -> None:
        super().__init__(settings, **keywords)
        self._reset([])
        self._dropped: dict[str, Tensor] = {}
        self._factors: Mapping[str, Tensor] | None = None

    def ratios(self) -> Tensor:
        """Return the drop ratio of every place, in the places' order, float64."""
        return self.settings.p_max * torch.sigmoid(self.phi)

    def diagnostics(self) -> Mapping[str, float]:
        """Return every place's ratio, and the loss difference Γ."""
        ratios = dict(zip(self._index, self.ratios().tolist(), strict=True))
        return {**super().diagnostics(), **{f"ratio/{place}": ratio for place, ratio in ratios.items()}}

    def prepare(self, points: Sequence[FeaturePoint]) -> None:
        """Begin with the same ratio at every place."""
        self._reset(points)

    def _reset(self, points: Sequence[FeaturePoint]) -> None:
        share = self.settings.p / self.settings.p_max
        device = self.strength.device
        start = torch.full((len(points),), math.log(share / (1 - share)), dtype=torch.float64, device=device)
        self._index = {point.name: place for place, point in enumerate(points)}
        self.register_buffer("phi", start)
        self.register_buffer("adam_mean", torch.zeros_like(start))
        self.register_buffer("adam_square", torch.zeros_like(start))
        self.register_buffer("adam_steps", torch.zeros((), dtype=torch.int64, device=device))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64, device=device))

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Move the ratios on and choose what to drop; the batch stays as it is."""
        super().transform(model, batch, task, generator)
        settings = self.settings
        self._dropped = {}
        if settings.m1 == settings.m2 == "ones":
            return batch
        device = generator.device
        learns = settings.m2 == "learned" and settings.m1 != "zeros" and settings.meta_lr > 0
        if learns and int(self.steps) % settings.every == 0:
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                self._learn(model, batch, task, generator)
        gradients = self._probe(model, batch, task, device, lend=True)
        first = self._first(gradients, generator)
        degrees = self._degrees(self.phi, gradients, self._noise(gradients, generator))
        self._dropped = {place: first[place] | (degrees[place] > 0.5) for place in first}
        return batch

    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        """Multiply with the masks."""
        if self._factors is not None:
            factor = self._factors.get(place)
            return (
                x
                if factor is None
                else (x * factor.to(torch.promote_types(x.dtype, torch.float32))).to(x.dtype)
            )
        dropped = self._dropped.get(place)
        if dropped is None or current_role() is not PassRole.FULL:
            return x
        return drop_units(x, dropped, keep_scale(dropped))

    def after_step(self, progress: float) -> None:
        """Forget the step's masks and count the step."""
        super().after_step(progress)
        self.steps += 1
        self._dropped = {}

    def detach(self) -> None:
        """Remove the hooks and forget the masks."""
        super().detach()
        self._dropped = {}

    # ---- masks ---------------------------------------------------------------------------------------------

    def _first(self, gradients: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return where M1 is 0, at the current ratios."""
        settings, ratios = self.settings, self.ratios().tolist()
        if settings.m1 == "gsnr":
            return {
                place: sample_gsnr_block_mask(
                    grads, ratios[self._index[place]], 1.0, settings.block_size, generator=generator
                )
                for place, grads in gradients.items()
            }
        return {
            place: torch.full_like(grads[:1], settings.m1 == "zeros", dtype=torch.bool)
            for place, grads in gradients.items()
        }

    def _noise(self, gradients: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Draw a number for every place where a block fits."""
        noise = {}
        for place, grads in gradients.items():
            channels, *spatial = grads.shape[1:]
            block = block_shape(self.settings.block_size, spatial)
            size = (1, channels, *(side - b + 1 for side, b in zip(spatial, block, strict=True)))
            noise[place] = sample_uniform(size, generator=generator, device=grads.device)
        return noise

    def _degrees(
        self, phi: Tensor, gradients: Mapping[str, Tensor], noise: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return how far M2 drops each unit, differentiable in ``phi``."""
        settings = self.settings
        if settings.m2 != "learned":
            return {
                place: torch.full_like(grads[:1], float(settings.m2 == "zeros"), dtype=phi.dtype)
                for place, grads in gradients.items()
            }
        return {
            place: relaxed_blocks(
                settings.p_max * torch.sigmoid(phi[self._index[place]]),
                noise[place],
                grads.shape[2:],
                settings.block_size,
                temperature=settings.temperature,
            )
            for place, grads in gradients.items()
        }

    # ---- meta-learning -------------------------------------------------------------------------------------

    def _learn(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> None:
        """Move phi by the gradient of the loss on a domain after a virtual step on the others."""
        parts = split_by_domain(batch, generator)
        if parts is None:
            return
        train, test = parts
        gradients = self._probe(model, train, task, generator.device)
        first, noise = self._first(gradients, generator), self._noise(gradients, generator)
        with torch.enable_grad():
            phi = self.phi.clone().requires_grad_()
            degrees = self._degrees(phi, gradients, noise)
            factors = {place: keep_factor(first[place], degrees[place]) for place in first}
            differentiate = self._exact if self.settings.hypergradient == "exact" else self._difference
            grad = differentiate(model, train, test, task, factors, phi)
        self._adam(grad.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0))

    def _masked_loss(
        self, model: nn.Module, batch: Batch, task: Task, factors: Mapping[str, Tensor]
    ) -> Tensor:
        self._factors = factors
        try:
            return task.loss(model, batch)
        finally:
            self._factors = None

    def _exact(
        self,
        model: nn.Module,
        train: Batch,
        test: Batch,
        task: Task,
        factors: Mapping[str, Tensor],
        phi: Tensor,
    ) -> Tensor:
        """Return the derivative of the meta-test loss in phi, through the virtual step."""
        with run_as(model, PassRole.SUB):
            loss = self._masked_loss(model, train, task, factors)
            moved = virtual_step(loss, model, self.settings.inner_lr, second_order=True)
        with run_as(model, PassRole.PROBE):
            meta_test = task.loss(Borrowing(model, moved), test)
        (grad,) = torch.autograd.grad(meta_test, phi, materialize_grads=True, allow_unused=True)
        return grad

    def _difference(
        self,
        model: nn.Module,
        train: Batch,
        test: Batch,
        task: Task,
        factors: Mapping[str, Tensor],
        phi: Tensor,
    ) -> Tensor:
        """Return it as -inner_lr times the central difference of phi's gradient, along the meta-test gradient."""
        own = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        with run_as(model, PassRole.SUB):
            loss = self._masked_loss(model, train, task, factors)
            moved = virtual_step(loss, model, self.settings.inner_lr, second_order=False)
        leaves = {name: value.detach().requires_grad_() for name, value in moved.items()}
        with run_as(model, PassRole.PROBE):
            meta_test = task.loss(Borrowing(model, leaves), test)
        directions = torch.autograd.grad(
            meta_test, list(leaves.values()), materialize_grads=True, allow_unused=True
        )
        norm = torch.stack([direction.double().square().sum() for direction in directions]).sum().sqrt()
        width = 0.01 / norm.clamp(min=1e-12)
        slopes = []
        for sign in (1, -1):
            shifted = {
                name: value + (sign * width).to(value.dtype) * direction
                for (name, value), direction in zip(own.items(), directions, strict=True)
            }
            # Forked, so that dropout inside the model is the same on both sides.
            with run_as(model, PassRole.SUB), torch.random.fork_rng([phi.device] if phi.is_cuda else []):
                loss = self._masked_loss(Borrowing(model, shifted), train, task, factors)
            (slope,) = torch.autograd.grad(
                loss, phi, retain_graph=True, materialize_grads=True, allow_unused=True
            )
            slopes.append(slope)
        return -self.settings.inner_lr * (slopes[0] - slopes[1]) / (2 * width)

    def _adam(self, grad: Tensor) -> None:
        """Make one step of Adam, with the usual decays 0.9 and 0.999."""
        self.adam_steps += 1
        steps = int(self.adam_steps)
        self.adam_mean.lerp_(grad, 0.1)
        self.adam_square.lerp_(grad.square(), 0.001)
        mean, square = self.adam_mean / (1 - 0.9**steps), self.adam_square / (1 - 0.999**steps)
        self.phi -= self.settings.meta_lr * mean / (square.sqrt() + 1e-8)
