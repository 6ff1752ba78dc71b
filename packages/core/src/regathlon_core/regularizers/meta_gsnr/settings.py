"""Settings of Meta-GSNR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from regathlon_core.errors import UserError
from regathlon_core.regularizers.checks import check_choice, check_count, check_number, check_places
from regathlon_core.settings import RegularizerSettings, Stage

First = Literal["gsnr", "ones", "zeros"]
Second = Literal["learned", "ones", "zeros"]
Hypergradient = Literal["exact", "difference"]


@dataclass(frozen=True)
class MetaGSNRSettings(RegularizerSettings):
    """Meta-GSNR: GSNR-guided dropout whose ratios are learned, one per place.

    Attributes:
        p: Ratio to begin with, above 0 and below ``p_max``.
        p_max: Largest ratio, in (0, 1].
        block_size: Side of a block.
        m1: The keep mask of high signal-to-noise ratios, or all ones or zeros in its stead (ablation).
        m2: The keep mask of random blocks, through which the ratio is learned, or all ones or zeros in its stead.
        inner_lr: Size of the virtual step, above 0.
        meta_lr: Rate of the ratios' own Adam, at least 0.
        temperature: Of the relaxed random blocks, above 0.
        every: The ratios move in every so many-th step, at least 1.
        hypergradient: ``"exact"``, or ``"difference"``, a central difference of gradients.
        where: Feature points to act at (names or patterns); empty for the task's default ones.
    """

    name: ClassVar[str] = "meta_gsnr"
    summary: ClassVar[str] = "GSNR-guided dropout with ratios learned across domains"
    implementation: ClassVar[str] = "regathlon_core.regularizers.meta_gsnr.regularizer:MetaGSNR"
    stage: ClassVar[Stage] = Stage.FEATURE
    needs: ClassVar[frozenset[str]] = frozenset({"features", "domains", "sample_labels"})
    zero: ClassVar[Mapping[str, Any] | None] = {"m1": "ones", "m2": "ones"}
    acting: ClassVar[Mapping[str, Any]] = {"p": 0.3, "block_size": 2}
    p: float = 0.1
    p_max: float = 0.5
    block_size: int = 7
    m1: First = "gsnr"
    m2: Second = "learned"
    inner_lr: float = 0.01
    meta_lr: float = 0.01
    temperature: float = 0.5
    every: int = 1
    hypergradient: Hypergradient = "exact"
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_number(self, "p_max", 0.0, 1.0, above_low=True)
        check_number(self, "p", 0.0, self.p_max, above_low=True, below_high=True)
        check_count(self, "block_size")
        check_count(self, "every")
        check_choice(self, "m1", ("gsnr", "ones", "zeros"))
        check_choice(self, "m2", ("learned", "ones", "zeros"))
        check_number(self, "inner_lr", 0.0, above_low=True)
        check_number(self, "meta_lr", 0.0)
        check_number(self, "temperature", 0.0, above_low=True)
        if str(self.hypergradient) in ("first_order", "first-order"):
            raise UserError(
                "meta_gsnr: a first-order hypergradient is exactly 0, since the ratios act on the meta-test loss "
                "through the virtual step's gradient alone; use hypergradient=exact or difference."
            )
        check_choice(self, "hypergradient", ("exact", "difference"))
        check_places(self)
