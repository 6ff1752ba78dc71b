"""Settings of GSNR-guided dropout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from regathlon_core.regularizers.checks import check_count, check_number
from regathlon_core.settings import RegularizerSettings, Stage

Ratio = Literal["drop", "seed"]
Score = Literal["center", "mean", "max"]
Variant = Literal["aligned", "listing"]


@dataclass(frozen=True)
class GSNRDropSettings(RegularizerSettings):
    """GSNR-guided DropBlock (DB+gsnr): drop the blocks whose gradients agree most over the batch.

    Attributes:
        p: Share of units to drop (``ratio="drop"``) or of places that become blocks (``ratio="seed"``), in [0, 1].
        p_gsnr: Probability that a chosen block is dropped at all, in [0, 1].
        block_size: Side of a block.
        ratio: What ``p`` counts. The supplement's listing counts blocks, which drops several times ``p``.
        score: Which gradients a block is judged by: the one at its centre, or the mean or maximum over the block.
        variant: ``"aligned"``, or ``"listing"``: the numbers of the supplement's Listing 2 (odd blocks, square maps).
        where: Feature points to act at (names or patterns); empty for the task's default ones.
    """

    name: ClassVar[str] = "gsnr"
    version: ClassVar[int] = 2
    summary: ClassVar[str] = "drops blocks whose gradients have the highest signal-to-noise ratio"
    implementation: ClassVar[str] = "regathlon_core.regularizers.gsnr.regularizer:GSNRDrop"
    stage: ClassVar[Stage] = Stage.FEATURE
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    zero: ClassVar[Mapping[str, Any] | None] = {"p": 0.0}
    acting: ClassVar[Mapping[str, Any]] = {"p": 0.3, "block_size": 2}
    p: float = 0.1
    p_gsnr: float = 1.0
    block_size: int = 7
    ratio: Ratio = "drop"
    score: Score = "center"
    variant: Variant = "aligned"
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_number(self, "p", 0.0, 1.0)
        check_number(self, "p_gsnr", 0.0, 1.0)
        check_count(self, "block_size")
