"""Tasks of several domains whose images lie in folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from regathlon_core.errors import UserError
from regathlon_core.rng import SampleDraw
from regathlon_data import data_root
from regathlon_dg import augment
from regathlon_dg.base import DomainData, DomainTask, Samples, balanced_order
from regathlon_dg.folder_settings import FolderSettings
from regathlon_dg.layouts import Part
from regathlon_dg.reading import Labelled, read_files, some
from regathlon_vision import ops
from regathlon_vision.images import ImageFiles, Window, random_window

CHECKED = 30_000
"""Up to this many images are all decoded before anything is trained, so that damaged ones are named at once."""


class FolderTask(DomainTask):
    """The task that a ``FolderSettings`` declares; inputs are float32 [B, 3, size, size].

    The protocol says which samples are trained on, validated on and tested on, and how they are augmented. Images are
    decoded once, brought to a square of ``size`` pixels, and normalised. With a protocol of twins, the second half of
    the training samples are the mirror images of the first, and an original and its twin come in the same batch.

    Args:
        settings: The declaration.
        data: Folder of data sets; None for the usual one.

    Raises:
        UserError: Data is missing, damaged or inconsistent; the message names it.
    """

    settings: FolderSettings

    def __init__(self, settings: FolderSettings, data: Path | None = None) -> None:
        self.settings = settings
        self.pixel_mean, self.pixel_std = settings.mean, settings.std
        self.protocol = settings.protocols[settings.protocol]
        files = read_files(
            settings.layouts,
            settings.used,
            data_root(data),
            settings.name,
            official=self.protocol.official,
            corrupt=settings.corrupt,
        )
        self._classes = files.classes
        self._number: dict[Path, int] = {}
        domains = {
            name: self._domain(parts, settings.domains.index(name)) for name, parts in files.domains.items()
        }
        self.images = ImageFiles(tuple(self._number))
        if len(self.images) <= CHECKED:
            self._check_readable()
        super().__init__(settings, domains)
        self._originals = super().size("train")
        if self.protocol.twins:
            self._data["train"] = tuple(torch.cat([part, part]) for part in self._data["train"])  # type: ignore[assignment]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the class folders, sorted."""
        return self._classes

    @property
    def in_channels(self) -> int:
        """Red, green and blue."""
        return 3

    def order(self, epoch: int, seed: int, batch_size: int) -> list[Tensor]:
        """Return an epoch's training batches; where images have twins, half a batch are those of the other half."""
        if not self.protocol.twins:
            return super().order(epoch, seed, batch_size)
        half = max(1, batch_size // 2)
        domain = self._data["train"][2][: self._originals]
        if not self.settings.balanced:
            domain = torch.zeros_like(domain)
        batches = balanced_order(domain, epoch, seed, half)
        return [torch.cat([index, index + self._originals]) for index in batches]

    def inputs(self, samples: Tensor, index: Tensor, draw: SampleDraw | None) -> Tensor:
        """Return images, augmented as the protocol says where there is a draw.

        Args:
            samples: Which files, int64 [B].
            index: Within the split, int64 [B].
            draw: Source of augmentation; None for none.
        """
        if draw is None:
            return self.normalized(self._windows(samples, None))
        if not self.protocol.twins:
            return self.normalized(self._augmented(samples, index, draw))
        twin = index >= self._originals
        # An original and its twin share their crop and colours, so what is in the batch twice is made once.
        index = torch.where(twin, index - self._originals, index)
        originals, places = torch.unique(index, return_inverse=True)
        sample = torch.empty_like(originals).index_copy_(0, places, samples)
        images = self._augmented(sample, originals, draw)[places]
        return self.normalized(torch.where(twin[:, None, None, None], images.flip(-1), images))

    def _augmented(self, samples: Tensor, index: Tensor, draw: SampleDraw) -> Tensor:
        protocol = self.protocol
        crops = None
        if protocol.crop is not None:
            crops = draw.uniform(index, 40, purpose="crop").tolist()
        images = self._windows(samples, crops)
        if protocol.flip:
            images = ops.random_flip(images, draw.uniform(index, 1, purpose="flip")[:, 0])
        if protocol.jitter > 0:
            images = augment.colour_jitter(images, draw.uniform(index, 4, purpose="colour"), protocol.jitter)
        if protocol.gray > 0:
            images = augment.grayscale(images, draw.uniform(index, 1, purpose="gray")[:, 0] < protocol.gray)
        return images

    def _windows(self, samples: Tensor, crops: Sequence[Sequence[float]] | None) -> Tensor:
        """Return parts of images, or whole ones, float32 in [0, 1]."""

        def window(position: int, height: int, width: int) -> Window:
            if crops is None:
                return 0.0, 0.0, float(height), float(width)
            return random_window(height, width, crops[position], scale=self.protocol.crop or (1.0, 1.0))

        return self.images.windows(samples, (self.settings.size, self.settings.size), window).float() / 255

    def _domain(self, parts: Mapping[Part, tuple[Labelled, ...]], number: int) -> DomainData:
        """Return a domain's parts, drawing those that the data set does not have."""
        train: Sequence[Labelled] = parts["train"]
        val: Sequence[Labelled] = parts.get("val", ())
        if not val:
            chooser = np.random.default_rng([self.settings.split, number])
            order = chooser.permutation(len(train)).tolist()
            count = max(1, round(self.protocol.held_back * len(train)))
            train, val = [train[i] for i in order[count:]], [train[i] for i in order[:count]]
        test: Sequence[Labelled] | None = parts.get("test")
        if not self.protocol.whole_target:
            test = train
        return DomainData(
            self._numbered(train), self._numbered(val), None if test is None else self._numbered(test)
        )

    def _numbered(self, files: Sequence[Labelled]) -> Samples:
        """Return files by number, as ``ImageFiles`` counts them, and their labels."""
        numbers = [self._number.setdefault(path, len(self._number)) for path, _ in files]
        labels = [label for _, label in files]
        return torch.tensor(numbers, dtype=torch.int64), torch.tensor(labels, dtype=torch.int64)

    def _check_readable(self) -> None:
        damaged = []
        for number, path in enumerate(self.images.paths):
            try:
                self.images.pixels(number)
            except UserError as error:
                damaged.append(f"{path} ({error.message})")
        if damaged:
            raise UserError(f"The data of {self.settings.name} holds {some(sorted(damaged))}.")
