"""Gradients with respect to features, from a probe pass that leaves no trace."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from regathlon_core.features import FeaturePoint
from regathlon_core.passes import PassRole, current_role, run_as
from regathlon_core.regularizer import FeatureRegularizer
from regathlon_core.regularizers.gsnr.prefix import SharedPrefix
from regathlon_core.settings import RegularizerSettings
from regathlon_core.task import Batch, Task

S = TypeVar("S", bound=RegularizerSettings)

_MEMORY = 0.98
"""What a step's loss difference still counts one step later."""


class ProbingRegularizer(FeatureRegularizer[S]):
    """A feature regularizer that asks for the gradient of a loss with respect to the features at its places."""

    difference_sum: Tensor
    difference_weight: Tensor

    def __init__(self, settings: S | None = None, /, **keywords: Any) -> None:
        super().__init__(settings, **keywords)
        self._points: dict[str, FeaturePoint] = {}
        self._probed: dict[str, Tensor] | None = None
        self._prefix: SharedPrefix | None = None
        self._probe_loss: Tensor | None = None
        self.register_buffer("difference_sum", torch.zeros((), dtype=torch.float64))
        self.register_buffer("difference_weight", torch.zeros((), dtype=torch.float64))

    def diagnostics(self) -> Mapping[str, float]:
        """Return the loss difference Γ, once there is one: how far dropping moves the loss, averaged over about 50 steps.

        Michalkiewicz et al., ICCV 2023, supplement, section 2 and Figure 1.
        """
        weight = float(self.difference_weight)
        return {"loss_difference": float(self.difference_sum) / weight} if weight else {}

    def losses(
        self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the loss of the pass that trains, and note how far it is from the probe's."""
        loss = task.loss(model, batch)
        if self._probe_loss is not None:
            difference = (loss.detach() - self._probe_loss).abs().double()
            self.difference_sum.mul_(_MEMORY).add_(difference)
            self.difference_weight.mul_(_MEMORY).add_(1.0)
        yield loss

    def after_step(self, progress: float) -> None:
        """Forget what the step's probe computed, and move the schedule on."""
        super().after_step(progress)
        self._probe_loss = None
        if self._prefix is not None:
            self._prefix.forget()

    def detach(self) -> None:
        """Remove the hooks and forget the places."""
        super().detach()
        self._points = {}
        if self._prefix is not None:
            self._prefix.remove()
            self._prefix = None

    def _hook(self, point: FeaturePoint) -> Callable[[nn.Module, Any, Tensor], Tensor | None]:
        regularize = super()._hook(point)
        self._points[point.name] = point

        def note_or_regularize(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
            if self._probed is not None and current_role() is PassRole.PROBE:
                # Behind frozen layers nothing asks for a gradient yet.
                asked = output if output.requires_grad else output.detach().requires_grad_()
                self._probed[point.name] = asked
                return None if asked is output else asked
            return regularize(module, inputs, output)

        return note_or_regularize

    def _probe(
        self, model: nn.Module, batch: Batch, task: Task, device: torch.device, *, lend: bool = False
    ) -> dict[str, Tensor]:
        """Return every place's gradients as [samples, C, *positions].

        With ``lend``, the pass that trains on the same inputs takes over what the probe computed before the first place.
        """
        lent: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if lend and all(point.side == "output" for point in self._points.values()):
            if self._prefix is None:
                self._prefix = self._find_prefix(model, batch, task, device)
            lent = self._prefix.recording(model)
        self._probed = {}
        try:
            with _probing(model, device), lent:
                loss = task.loss(model, batch)
            if lend:
                self._probe_loss = loss.detach()
            places = list(self._probed.values())
            grads = torch.autograd.grad(loss, places, allow_unused=True) if places else ()
            found = dict(zip(self._probed, grads, strict=True))
        finally:
            self._probed = None
        return {
            name: _by_sample(grad, self._points[name]) for name, grad in found.items() if grad is not None
        }

    def _find_prefix(self, model: nn.Module, batch: Batch, task: Task, device: torch.device) -> SharedPrefix:
        def run() -> None:
            with _probing(model, device), torch.no_grad():
                task.loss(model, batch)

        return SharedPrefix(model, [point.module for point in self._points.values()], run)


@contextlib.contextmanager
def _probing(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Run passes as probes, from which torch's global generator comes back as it was."""
    with run_as(model, PassRole.PROBE), torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def _by_sample(grad: Tensor, point: FeaturePoint) -> Tensor:
    if point.layout == "nodes":
        return grad[:, :, None]
    if point.layout == "channels_last":
        grad = grad.transpose(1, 2)
    return grad if point.aligned else grad.flatten(2).transpose(1, 2).flatten(0, 1)[:, :, None]
