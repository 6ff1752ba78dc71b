"""Handwritten digits in four looks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from regathlon_core.rng import SampleDraw
from regathlon_data import DomainDigits, digit_domain
from regathlon_dg.base import DomainData, DomainTask
from regathlon_dg.settings import DigitDomainsSettings
from regathlon_vision import ops


class DigitDomainsTask(DomainTask):
    """The task that ``DigitDomainsSettings`` declares; inputs are float32 [B, 3, 16, 16].

    Training images are shifted by up to two pixels either way. Colours are never augmented: that would bring
    the looks nearer to each other, which is the regularizer's job.

    Args:
        settings: The declaration.
        data: Not needed: the digits ship with ``regathlon_data``.

    Example:
        >>> task = DigitDomainsSettings(test="camera").build()
        >>> batch = task.batch("train", task.order(epoch=0, seed=0, batch_size=6)[0])
        >>> batch.inputs.shape, batch.domain.tolist()
        (torch.Size([6, 3, 16, 16]), [0, 1, 2, 0, 1, 2])
    """

    view_angles: ClassVar[tuple[float, ...]] = (0.0, 15.0, -15.0)

    def __init__(self, settings: DigitDomainsSettings, data: Path | None = None) -> None:
        super().__init__(
            settings,
            {
                name: DomainData(_tensors(digit_domain(name)), _tensors(digit_domain(name, "val")))
                for name in settings.domains
            },
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """The ten digits."""
        return tuple("0123456789")

    @property
    def in_channels(self) -> int:
        """Red, green and blue."""
        return 3

    def augment(self, images: Tensor, index: Tensor, draw: SampleDraw) -> Tensor:
        """Return images shifted at random; what comes in repeats their edge."""
        return ops.random_shift(images, draw.uniform(index, 2, purpose="shift"), padding=2, border="edge")


def _tensors(digits: DomainDigits) -> tuple[Tensor, Tensor]:
    """Return images [N, 3, 16, 16] in [-2, 2], of the same scale in every domain, and labels."""
    images = torch.from_numpy(digits.images.copy()).permute(0, 3, 1, 2)
    return ((images / 255 - 0.5) * 4).contiguous(), torch.from_numpy(digits.labels.copy())
