"""What all domain-generalization tasks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regathlon_core.errors import UserError
from regathlon_core.rng import SampleDraw, stream
from regathlon_core.task import Batch, Split
from regathlon_dg.settings import DomainSettings
from regathlon_vision import ImageTask

Samples = tuple[Tensor, Tensor]
"""Images float32 [N, C, H, W] (or what ``DomainTask.inputs`` makes images of) and labels int64 [N]."""


@dataclass(frozen=True)
class DomainData:
    """One domain's images.

    Attributes:
        train: Images float32 [N, C, H, W] and labels int64 [N].
        val: The same of samples that are not trained on.
        test: What is tested on where the domain is held out; None for both of them.
    """

    train: Samples
    val: Samples
    test: Samples | None = None


class DomainTask(ImageTask):
    """Images from several domains: trained on all but one, tested on that one.

    ``val`` is what the setting ``validation`` says (Gulrajani & Lopez-Paz 2021, arXiv 2007.01434, section 3). Training
    batches hold equally many samples of every source domain, unless ``balanced`` is off.

    Args:
        settings: The declaration; it names the domain that is held out.
        data: Every domain's data.

    Raises:
        UserError: A domain is missing or empty, or labels are none.
    """

    settings: DomainSettings

    def __init__(self, settings: DomainSettings, data: Mapping[str, DomainData]) -> None:
        super().__init__(settings)
        for name in settings.used:
            self._check(name, data.get(name))
        target = str(settings.test)
        held_out = data[target].test or _joined([data[target].train, data[target].val])
        chosen: dict[Split, list[tuple[str, Samples]]] = {
            "train": [(name, data[name].train) for name in settings.sources],
            "val": [(name, data[name].val) for name in settings.sources],
            "test": [(target, held_out)],
        }
        if settings.validation == "leave_one_out":
            name = str(settings.val)
            chosen["val"] = [(name, data[name].test or _joined([data[name].train, data[name].val]))]
        elif settings.validation == "oracle":
            chosen["val"], chosen["test"] = [(target, data[target].val)], [(target, data[target].train)]
        self._data: dict[Split, tuple[Tensor, Tensor, Tensor]] = {}
        for split, parts in chosen.items():
            domains = [torch.full_like(labels, settings.domains.index(name)) for name, (_, labels) in parts]
            self._data[split] = (*_joined([samples for _, samples in parts]), torch.cat(domains))

    def size(self, split: Split) -> int:
        """Return the number of samples: of the source domains, or for ``test`` of the target."""
        return len(self._data[split][1])

    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        """Return samples with their domains, augmented where there is a draw."""
        samples, labels, domain = (part[index] for part in self._data[split])
        return Batch(self.inputs(samples, index, draw), labels, index=index, domain=domain)

    def inputs(self, samples: Tensor, index: Tensor, draw: SampleDraw | None) -> Tensor:
        """Return images [B, C, H, W] of what ``DomainData`` held; the default takes them as they are."""
        return samples if draw is None else self.augment(samples, index, draw)

    def augment(self, images: Tensor, index: Tensor, draw: SampleDraw) -> Tensor:
        """Return augmented images; the default leaves them as they are."""
        return images

    def order(self, epoch: int, seed: int, batch_size: int) -> list[Tensor]:
        """Return an epoch's batches, in each of which the source domains take turns.

        An epoch is once through the largest domain; smaller ones begin again, in a new order. A batch size
        that is a multiple of the number of sources gives them equal shares; of other sizes they differ by
        one. Where the setting ``balanced`` is off, all samples are shuffled together.
        """
        if not self.settings.balanced:
            return super().order(epoch, seed, batch_size)
        return balanced_order(self._data["train"][2], epoch, seed, batch_size)

    def _check(self, name: str, domain: DomainData | None) -> None:
        if domain is None or not len(domain.train[1]):
            raise UserError(f"The domain {name} of {self.settings.name} has no samples to train on.")
        labels = torch.cat([domain.train[1], domain.val[1]])
        low, high, count = int(labels.min()), int(labels.max()), len(self.classes)
        if low < 0 or high >= count:
            hint = " They count from 1: subtract 1." if (low, high) == (1, count) else ""
            raise UserError(
                f"The labels of the domain {name} of {self.settings.name} go from {low} to {high}; those of "
                f"{count} classes go from 0 to {count - 1}.{hint}"
            )
        absent = set(range(count)) - set(labels.tolist())
        if absent:
            names = ", ".join(self.classes[label] for label in sorted(absent)[:5])
            raise UserError(f"The domain {name} of {self.settings.name} has no sample of the class {names}.")


def balanced_order(domain: Tensor, epoch: int, seed: int, batch_size: int) -> list[Tensor]:
    """Return an epoch's batches, in each of which the domains take turns; see ``DomainTask.order``.

    Args:
        domain: Of each sample, int64 [N].
        epoch: Counted from 0.
        seed: The trial's seed.
        batch_size: Samples in a batch; a last one is kept where it is at least half full.
    """
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


def _joined(parts: Sequence[Samples]) -> Samples:
    samples, labels = (torch.cat(column) for column in zip(*parts, strict=True))
    return samples, labels
