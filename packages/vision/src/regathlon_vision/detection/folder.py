"""Data in COCO's format: COCO itself, nuclei, folders of one's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from regathlon_core.errors import UserError, for_the_user
from regathlon_core.task import Split
from regathlon_data import DataError, located, manifest, manifest_names
from regathlon_vision.detection.coco import read_annotations
from regathlon_vision.detection.settings import CocoFolderSettings
from regathlon_vision.detection.task import DetectionTask


class CocoFolderTask(DetectionTask):
    """A task on files in COCO's format; its settings name them.

    Colours are normalised by ImageNet's mean and standard deviation. Images are read when they are needed, gray ones as
    three equal channels, without regard to rotation tags (annotations refer to the pixels as they are stored).

    Args:
        settings: The declaration.
        data: Data root; None for the usual one.

    Raises:
        UserError: The data set is not there, an annotation file is missing or damaged, or the splits have other categories.
    """

    def __init__(self, settings: CocoFolderSettings, data: Path | None = None) -> None:
        super().__init__(settings)
        known = settings.dataset in manifest_names()
        with for_the_user(DataError):
            root = located(settings.dataset, data)
        self.short, self.long, self.flip = settings.short, settings.long, settings.flip
        self._folders: dict[Split, Path] = {}
        self.annotations = {}
        for split, (file, folder) in settings.files.items():
            found = read_annotations(root / file, root / folder, problems=settings.problems)
            wanted = manifest(settings.dataset).splits[split] if known else found.listed
            if found.listed != wanted:
                raise UserError(
                    f"{settings.dataset} has {wanted} images for the split {split}, this file has {found.listed}. A part of "
                    f"a data set is another data set: name its folder in detection/folder(folder=...).",
                    where=str(root / file),
                )
            if split == "train" and settings.empty == "drop":
                kept = (image for image in found.images if any(not one.crowd for one in image.instances))
                found = replace(found, images=tuple(kept))
            if not found.images:
                raise UserError("There is no image that can be used.", where=str(root / file))
            self.annotations[split] = found
            self._folders[split] = root / folder
        first, *others = self.annotations.values()
        for other in others:
            if other.classes != first.classes:
                raise UserError(
                    f"The splits of {settings} have different categories: {_listed(first.classes)} and "
                    f"{_listed(other.classes)}."
                )

    def read(self, split: Split, index: int) -> NDArray[np.uint8]:
        """Return an image.

        Raises:
            UserError: Its pixels cannot be read.
        """
        path = self._folders[split] / self.annotations[split].images[index].file
        try:
            with Image.open(path) as image:
                return np.array(image.convert("RGB"))
        except OSError as error:
            raise UserError(f"The image cannot be read: {error}.", where=str(path)) from error


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
