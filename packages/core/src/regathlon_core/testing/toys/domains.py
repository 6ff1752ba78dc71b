"""Images of bars from two domains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from regathlon_core.rng import SampleDraw
from regathlon_core.task import Batch, Split
from regathlon_core.testing.toys.images import ToyImages, ToyImagesSettings


@dataclass(frozen=True)
class ToyDomainsSettings(ToyImagesSettings):
    """The images of ``ToyImages``, every other triple of them under dim light."""

    name: ClassVar[str] = "dg/toy"
    summary: ClassVar[str] = "bars of three directions under two lights"
    implementation: ClassVar[str] = "regathlon_core.testing.toys.domains:ToyDomains"
    provides: ClassVar[frozenset[str]] = ToyImagesSettings.provides | {"domains"}
    domains: ClassVar[tuple[str, ...]] = ("bright", "dim")


class ToyDomains(ToyImages):
    """See ``ToyDomainsSettings``.

    Example:
        >>> task = ToyDomains()
        >>> task.batch("train", torch.arange(7)).domain
        tensor([0, 0, 0, 1, 1, 1, 0])
    """

    def __init__(self, settings: ToyDomainsSettings | None = None, data: object = None) -> None:
        super().__init__(settings if settings is not None else ToyDomainsSettings())

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        """Return samples with their domains; those of the second one are darker."""
        batch = super().batch(split, index, draw)
        domain = torch.div(index, 3, rounding_mode="floor") % 2
        light = 1 - 0.5 * domain.to(batch.inputs.dtype)
        return batch.replace(
            inputs=batch.inputs * light[:, None, None, None] - domain[:, None, None, None], domain=domain
        )
