"""Images of different sizes in one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Images(Sequence[Tensor]):
    """A sequence of images [C, H, W] that lie in the top left corners of one tensor, filled up with zeros.

    Attributes:
        padded: [B, C, H of the highest, W of the widest].
        sizes: Height and width of every image.

    Example:
        >>> images = Images.of([torch.ones(3, 4, 6), torch.ones(3, 5, 2)])
        >>> images.padded.shape, images.sizes, images[1].shape
        (torch.Size([2, 3, 5, 6]), ((4, 6), (5, 2)), torch.Size([3, 5, 2]))
    """

    padded: Tensor
    sizes: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, images: Sequence[Tensor]) -> Images:
        """Put images [C, H, W] of one number of channels together."""
        sizes = tuple((image.shape[-2], image.shape[-1]) for image in images)
        height, width = (max(sides) for sides in zip(*sizes, strict=True))
        padded = images[0].new_zeros(len(images), images[0].shape[0], height, width)
        for place, image, (h, w) in zip(padded, images, sizes, strict=True):
            place[:, :h, :w] = image
        return cls(padded, sizes)

    def to(self, *args: Any, **kwargs: Any) -> Images:
        """Return them on a device, or in another dtype."""
        return Images(self.padded.to(*args, **kwargs), self.sizes)

    def inside(self) -> Tensor:
        """Return which positions belong to an image: bool [B, H, W]."""
        height, width = self.padded.shape[-2:]
        heights, widths = torch.tensor(self.sizes, device=self.padded.device).T
        rows = torch.arange(height, device=self.padded.device) < heights[:, None]
        columns = torch.arange(width, device=self.padded.device) < widths[:, None]
        inside: Tensor = rows[:, :, None] & columns[:, None, :]
        return inside

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        height, width = self.sizes[index]
        return self.padded[index, :, :height, :width]
