"""Declaration of the evaluation of what GSNR-guided dropout drops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from regathlon_core.errors import UserError
from regathlon_core.settings import EvaluationSettings


@dataclass(frozen=True)
class GSNRDropsSettings(EvaluationSettings):
    """What GSNR-guided dropout would drop in the trained model: which channels, where, and what that does to the loss.

    Attributes:
        p: Share of units to drop, above 0 and at most 1.
        block_size: Side of a block.
        batches: How many training batches are looked at.
        batch_size: Samples in each.
        images: How many images are shown.
        where: Feature points (names or patterns); empty for the task's default ones.
    """

    name: ClassVar[str] = "gsnr_drops"
    summary: ClassVar[str] = "Which channels and places GSNR-guided dropout drops, and the loss difference"
    implementation: ClassVar[str] = "regathlon_dg.gsnr_drops.evaluation:GSNRDrops"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "domains", "grid_inputs"})
    p: float = 0.1
    block_size: int = 7
    batches: int = 8
    batch_size: int = 48
    images: int = 6
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise UserError(f"{self.name}: p must lie above 0 and be at most 1, not {self.p}.")
        for field in ("block_size", "batches", "images"):
            if getattr(self, field) < 1:
                raise UserError(f"{self.name}: {field} must be at least 1, not {getattr(self, field)}.")
        if self.batch_size < 2:
            raise UserError(f"{self.name}: batch_size must be at least 2, not {self.batch_size}.")
