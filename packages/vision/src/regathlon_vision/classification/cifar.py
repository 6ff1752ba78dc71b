"""CIFAR-10 and CIFAR-100."""

from __future__ import annotations

from pathlib import Path

import torch

from regathlon_core.errors import UserError, for_the_user
from regathlon_core.task import Split
from regathlon_data import DataError, require
from regathlon_vision.classification.cifar_files import read_batches, read_names
from regathlon_vision.classification.settings import Cifar10Settings, CifarSettings
from regathlon_vision.classification.stack import Stack, StackTask, few_labels
from regathlon_vision.images import list_classes, read_stack


class CifarTask(StackTask):
    """The tasks that ``Cifar10Settings`` and ``Cifar100Settings`` declare; inputs are float32 [B, 3, 32, 32].

    Training images are shifted by up to 4 pixels (mirrored at the border) and mirrored left to right, as in wide
    residual networks' and GradAug's experiments. The files lie where torchvision's ``CIFAR10`` and ``CIFAR100`` have
    them; those of the subset in one folder per class.

    Args:
        settings: Which of the two, how many labels, which source.
        data: The data root; see ``regathlon_data.data_root``.

    Raises:
        UserError: Files are missing or damaged, or there are too few labels.
    """

    def __init__(self, settings: CifarSettings, data: Path | None = None) -> None:
        with for_the_user(DataError):
            root = require(settings.dataset, data)
        read = _read_subset if settings.source == "subset" else _read_batches
        classes, train, test = read(settings, root)
        splits: dict[Split, Stack] = {"test": test}
        if settings.validation:
            held_out, rest = few_labels(train.labels, settings.validation, _VALIDATION_SPLIT, len(classes))
            splits["val"], train = train.take(held_out), train.take(rest)
        others = None
        if settings.labels:
            kept, rest = few_labels(train.labels, settings.labels, settings.split or 0, len(classes))
            train, others = train.take(kept), train.images[rest]
        splits["train"] = train
        super().__init__(
            settings, classes, splits, unlabelled=others, mean=settings.pixel_mean, std=settings.pixel_std
        )


_VALIDATION_SPLIT = 1 << 20  # no low-data split shares its random numbers


def _read_batches(settings: CifarSettings, root: Path) -> tuple[tuple[str, ...], Stack, Stack]:
    if isinstance(settings, Cifar10Settings):
        folder = root / "cifar-10-batches-py"
        names = [f"data_batch_{number}" for number in range(1, 6)]
        parts, label, meta = (names, ["test_batch"]), "labels", ("batches.meta", "label_names")
    else:
        folder = root / "cifar-100-python"
        parts, label, meta = (["train"], ["test"]), "fine_labels", ("meta", "fine_label_names")
    classes = read_names(folder / meta[0], meta[1])
    train, test = (
        Stack(*(torch.from_numpy(part) for part in read_batches([folder / name for name in names], label)))
        for names in parts
    )
    for stack in (train, test):
        if not 0 <= int(stack.labels.min()) <= int(stack.labels.max()) < len(classes):
            raise UserError(f"A label is none of the {len(classes)} classes.", where=str(folder))
    return classes, train, test


def _read_subset(settings: CifarSettings, root: Path) -> tuple[tuple[str, ...], Stack, Stack]:
    train = list_classes(root / settings.subset_train)
    test = list_classes(root / settings.subset_test, train.classes)
    if len(train.classes) != settings.classes:
        raise UserError(
            f"There are folders of {len(train.classes)} classes instead of {settings.classes}.",
            where=str(root / settings.subset_train),
        )
    first, second = (Stack(read_stack(listing.paths), listing.labels) for listing in (train, test))
    return train.classes, first, second
