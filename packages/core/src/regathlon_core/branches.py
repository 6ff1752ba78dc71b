"""Regularizers that act on residual branches: layers of one's own model, or attached to an unmodified one."""

from __future__ import annotations

import abc
import contextlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.regularizer import Regularizer, S
from regathlon_core.subnetworks.branches import residual_branches

if TYPE_CHECKING:
    from regathlon_core.task import Batch, Task


class BranchRegularizer(Regularizer[S], abc.ABC):
    """A regularizer that acts on residual branches, before they are added to their shortcuts.

    As a layer, ``forward`` takes the branch's output: ``x + layer(branch(x))``. Attached, it acts on the branches of
    the model's residual blocks, which are found when the model first runs; modules and state-dict keys stay what they
    are. In ``eval()`` and in probe and attribution passes it is the identity.

    Subclasses implement ``act``. Their settings have a rate ``p`` and say in ``decay`` how it depends on the depth.
    """

    def __init__(self, settings: S | None = None, /, **keywords: object) -> None:
        super().__init__(settings, **keywords)
        self._lent: contextlib.ExitStack | None = None
        self._generator: torch.Generator | None = None

    @abc.abstractmethod
    def act(self, branch: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
        """Return the regularized branch.

        Args:
            branch: What is about to be added to the shortcut, [B, ...], any floating dtype.
            p: The rate at its depth.
            generator: Source of randomness on the device of ``branch``; None for torch's global one.
        """

    def rate(self, depth: float) -> float:
        """Return the rate of block l of L, at depth l/L in (0, 1]."""
        p: float = getattr(self.settings, "p")  # noqa: B009  # not a field of the base class
        uniform = getattr(self.settings, "decay") == "uniform"  # noqa: B009
        return p if uniform else p * depth

    def forward(self, branch: Tensor) -> Tensor:
        """Regularize a branch [B, ...] at the full rate in training mode; return it itself in ``eval()``."""
        return self.act(branch, self.rate(1.0), self._generator) if self.training else branch

    def attach(self, model: nn.Module, task: Task | None = None) -> None:
        """Lend the model a forward pass whose residual branches go through ``act``.

        Raises:
            UserError: It is attached already.
        """
        if self._lent is not None:
            raise UserError(f"{self.settings.name} is attached to a model already; detach() it first.")
        self._lent = contextlib.ExitStack()
        self._lent.enter_context(
            residual_branches(
                model, lambda branch, depth: self.act(branch, self.rate(depth), self._generator)
            )
        )

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Remember the step's generator for the passes to come; the batch stays as it is."""
        self._generator = generator
        return batch

    def detach(self) -> None:
        """Give the plain forward pass back."""
        if self._lent is not None:
            self._lent.close()
        self._lent = None
        self._generator = None
