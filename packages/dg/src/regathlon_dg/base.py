"""What all domain-generalization tasks share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from regathlon_core.rng import SampleDraw, stream
from regathlon_core.task import Batch, Split
from regathlon_dg.settings import DomainSettings
from regathlon_vision import ImageTask


@dataclass(frozen=True)
class DomainData:
    """One domain's images.

    Attributes:
        train: Images float32 [N, C, H, W] and labels int64 [N].
        val: The same of samples that are not trained on.
    """

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]


class DomainTask(ImageTask):
    """Images from several domains: trained on all but one, tested on that one.

    The protocol is leave-one-domain-out with training-domain validation (Gulrajani & Lopez-Paz 2021, arXiv
    2007.01434, section 3): ``val`` holds samples of the source domains that are not trained on, so selecting
    on it never sees the target; ``test`` is all of the target domain. Training batches hold equally many
    samples of every source domain.

    Args:
        settings: The declaration; it names the domain that is held out.
        data: Every domain's data.
    """

    settings: DomainSettings

    def __init__(self, settings: DomainSettings, data: Mapping[str, DomainData]) -> None:
        super().__init__(settings)
        sources = [data[name] for name in settings.sources]
        target = data[str(settings.test)]
        chosen: dict[Split, list[tuple[Tensor, Tensor]]] = {
            "train": [domain.train for domain in sources],
            "val": [domain.val for domain in sources],
            "test": [target.train, target.val],
        }
        numbers = [settings.domains.index(name) for name in settings.sources]
        held_out = settings.domains.index(str(settings.test))
        self._data: dict[Split, tuple[Tensor, Tensor, Tensor]] = {}
        for split, parts in chosen.items():
            owners = [held_out, held_out] if split == "test" else numbers
            domain = [
                torch.full_like(labels, owner) for (_, labels), owner in zip(parts, owners, strict=True)
            ]
            images, labels = (torch.cat(column) for column in zip(*parts, strict=True))
            self._data[split] = images, labels, torch.cat(domain)

    def size(self, split: Split) -> int:
        """Return the number of samples: of the source domains, or for ``test`` of the target."""
        return len(self._data[split][1])

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        """Return samples with their domains, augmented where there is a draw."""
        images, labels, domain = (part[index] for part in self._data[split])
        if draw is not None:
            images = self.augment(images, index, draw)
        return Batch(images, labels, index=index, domain=domain)

    def augment(self, images: Tensor, index: Tensor, draw: SampleDraw) -> Tensor:
        """Return augmented images; the default leaves them as they are."""
        return images

    def order(self, epoch: int, seed: int, batch_size: int) -> list[Tensor]:
        """Return an epoch's batches, in each of which the source domains take turns.

        An epoch is once through the largest domain; smaller ones begin again, in a new order. A batch size
        that is a multiple of the number of sources gives them equal shares; of other sizes they differ by
        one.
        """
        domain = self._data["train"][2]
        members = [torch.nonzero(domain == number).flatten() for number in sorted(set(domain.tolist()))]
        longest = max(len(own) for own in members)
        turns = []
        for number, own in enumerate(members):
            generator = stream(seed, "order", epoch, number)
            rounds = -(-longest // len(own))
            shuffled = [own[torch.randperm(len(own), generator=generator)] for _ in range(rounds)]
            turns.append(torch.cat(shuffled)[:longest])
        batches = list(torch.split(torch.stack(turns, dim=1).flatten(), batch_size))
        if len(batches) > 1 and len(batches[-1]) * 2 < batch_size:
            batches.pop()
        return batches
