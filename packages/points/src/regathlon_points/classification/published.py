"""Collections of point clouds in the layouts that they are published in."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regathlon_core.errors import UserError, for_the_user
from regathlon_core.task import Split
from regathlon_data import DataError, require
from regathlon_points.classification.augmentation import Augmentation
from regathlon_points.classification.clouds import Floats, read_clouds, thin_out
from regathlon_points.classification.files import read_array, read_hdf5, read_mesh, read_text
from regathlon_points.classification.settings import (
    CollectionSettings,
    ModelNet10Settings,
    ModelNet40Settings,
    ScanObjectNNSettings,
    ShapeNet16Settings,
    ShapeNet55Settings,
)
from regathlon_points.classification.task import PointClassification

Clouds = tuple[Tensor, Tensor]
"""Clouds, float32 [B, C, N], and labels, int64 [B]."""
Reading = tuple[tuple[str, ...], dict[Split, Clouds]]
"""Names of the classes, and the clouds of each split."""


class Collection(PointClassification):
    """A published collection of clouds; see its settings. Coordinates are in the unit sphere, axes as in the files.

    Args:
        settings: Which collection, and how it is read.
        data: The data root; see ``regathlon_data.data_root``.

    Raises:
        UserError: Files are missing or broken; the message names them.
    """

    def __init__(self, settings: CollectionSettings, data: Path | None = None) -> None:
        with for_the_user(DataError):
            root = require(settings.dataset, data)
        classes, splits = _READERS[type(settings)](settings, root)
        augmentation = Augmentation(
            dropout=settings.point_dropout,
            rotation=settings.rotation,
            scale=settings.scale,
            axis_scale=settings.axis_scale,
            shift=settings.shift,
            jitter=settings.jitter,
        )
        super().__init__(settings, classes, splits, augmentation=augmentation, votes=settings.votes)


def _modelnet(settings: CollectionSettings, root: Path) -> Reading:
    assert isinstance(settings, (ModelNet40Settings, ModelNet10Settings))
    number = 40 if isinstance(settings, ModelNet40Settings) else 10
    if settings.source == "meshes":
        return _meshes(settings, root / f"ModelNet{number}")
    if settings.source == "subset":
        return _subset(settings, root / "ModelNet10_points" / "modelnet10_chair_monitor_points1024.npz")
    if settings.source == "normals":
        return _normal_resampled(settings, root / "modelnet40_normal_resampled", number)
    folder = root / "modelnet40_ply_hdf5_2048"
    classes = tuple(_lines(folder / "shape_names.txt"))
    return classes, {
        split: _hdf5(settings, [folder / Path(name).name for name in _lines(folder / f"{split}_files.txt")])
        for split in ("train", "test")
    }


def _meshes(settings: CollectionSettings, folder: Path) -> Reading:
    """Read ``<class>/{train,test}/*.off``."""
    classes = tuple(sorted(part.name for part in folder.iterdir() if part.is_dir()))
    columns = 6 if settings.normals else 3

    def read(path: Path) -> Floats:
        return read_mesh(path, settings.points)[:, :columns]

    splits: dict[Split, Clouds] = {}
    for split in ("train", "test"):
        files = [sorted((folder / name / split).glob("*.off")) for name in classes]
        labels = np.repeat(np.arange(len(classes)), [len(part) for part in files])
        paths = [path for part in files for path in part]
        splits[split] = _separate(settings, paths, labels, read, "mesh")
    if not len(splits["train"][1]):
        raise UserError("There is no <class>/train/*.off file in it.", where=str(folder))
    return classes, splits


def _normal_resampled(settings: CollectionSettings, folder: Path, number: int) -> Reading:
    """Read ``<class>/<class>_0001.txt`` as listed in ``modelnet40_train.txt``."""
    classes = tuple(_lines(folder / f"modelnet{number}_shape_names.txt"))
    label = {name: i for i, name in enumerate(classes)}
    splits: dict[Split, Clouds] = {}
    for split in ("train", "test"):
        listing = folder / f"modelnet{number}_{split}.txt"
        names = _lines(listing)
        kinds = [name.rpartition("_")[0] for name in names]
        for kind in kinds:
            if kind not in label:
                raise UserError(f"It lists a {kind!r}, which is none of the classes.", where=str(listing))
        paths = [folder / kind / f"{name}.txt" for kind, name in zip(kinds, names, strict=True)]
        splits[split] = _separate(
            settings, paths, np.array([label[kind] for kind in kinds]), _text(settings), "text"
        )
    return classes, splits


def _subset(settings: CollectionSettings, path: Path) -> Reading:
    """Read two classes of ModelNet10 from one small file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            points, labels = file["points"].astype(np.float32), file["labels"].astype(np.int64)
            test, classes = file["is_test"].astype(bool), tuple(str(name) for name in file["classes"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"It is no whole file of clouds ({error}).", where=str(path)) from error
    return classes, {
        "train": _together(settings, points[~test], labels[~test]),
        "test": _together(settings, points[test], labels[test]),
    }


def _shapenet16(settings: CollectionSettings, root: Path) -> Reading:
    """Read the 16 classes that are annotated with parts: ``<synset>/<id>.txt``, lists of splits in JSON."""
    folder = root / "shapenetcore_partanno_segmentation_benchmark_v0_normal"
    rows = [line.split() for line in _lines(folder / "synsetoffset2category.txt")]
    classes = tuple(sorted(row[0] for row in rows))
    label = {row[1]: classes.index(row[0]) for row in rows}
    splits: dict[Split, Clouds] = {}
    for split in ("train", "val", "test"):
        listing = folder / "train_test_split" / f"shuffled_{split}_file_list.json"
        try:
            names = [Path(name) for name in json.loads(listing.read_text())]
            labels = np.array([label[name.parts[-2]] for name in names])
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise UserError(f"It is no list of shapes ({error}).", where=str(listing)) from error
        paths = [folder / name.parts[-2] / f"{name.name}.txt" for name in names]
        splits[split] = _separate(settings, paths, labels, _text(settings), "text")
    return classes, splits


def _shapenet55(settings: CollectionSettings, root: Path) -> Reading:
    """Read ``shapenet_pc/<synset>-<id>.npy`` as listed in ``ShapeNet-55/train.txt``; synsets are the classes."""
    folder = root / "ShapeNet55-34"
    names = {
        split: [Path(name).name for name in _lines(folder / "ShapeNet-55" / f"{split}.txt")]
        for split in ("train", "test")
    }
    classes = tuple(sorted({name.partition("-")[0] for part in names.values() for name in part}))
    splits: dict[Split, Clouds] = {}
    for split in ("train", "test"):
        labels = np.array([classes.index(name.partition("-")[0]) for name in names[split]])
        paths = [folder / "shapenet_pc" / name for name in names[split]]
        splits[split] = _separate(settings, paths, labels, read_array, "array")
    return classes, splits


def _scanobjectnn(settings: CollectionSettings, root: Path) -> Reading:
    assert isinstance(settings, ScanObjectNNSettings)
    folder = root / "h5_files" / ("main_split" if settings.background else "main_split_nobg")
    ending = "_augmentedrot_scale75" if settings.variant == "hardest" else ""
    splits: dict[Split, Clouds] = {
        "train": _hdf5(settings, [folder / f"training_objectdataset{ending}.h5"]),
        "test": _hdf5(settings, [folder / f"test_objectdataset{ending}.h5"]),
    }
    return SCAN_CLASSES, splits


SCAN_CLASSES = (
    *("bag", "bin", "box", "cabinet", "chair", "desk", "display", "door", "shelf", "table"),
    *("bed", "pillow", "sink", "sofa", "toilet"),
)
"""ScanObjectNN's classes in the order of its labels."""

_READERS: Mapping[type[CollectionSettings], Callable[[CollectionSettings, Path], Reading]] = {
    ModelNet40Settings: _modelnet,
    ModelNet10Settings: _modelnet,
    ShapeNet16Settings: _shapenet16,
    ShapeNet55Settings: _shapenet55,
    ScanObjectNNSettings: _scanobjectnn,
}


def _text(settings: CollectionSettings) -> Callable[[Path], Floats]:
    return functools.partial(read_text, normals=settings.normals)


def _separate(
    settings: CollectionSettings,
    paths: Sequence[Path],
    labels: NDArray[np.int64],
    read: Callable[[Path], Floats],
    reader: str,
) -> Clouds:
    """Return clouds of a file each."""
    for path in paths:
        if not path.is_file():
            raise UserError("A listed file is not there.", where=str(path))
    if not paths:
        return torch.empty(0, 6 if settings.normals else 3, settings.points), torch.empty(
            0, dtype=torch.int64
        )
    about = f"{reader} {'normals' if settings.normals else 'places'}"
    clouds = read_clouds(paths, read, settings.points, settings.sampling, about)
    return torch.from_numpy(clouds).mT.contiguous(), torch.from_numpy(labels.astype(np.int64))


def _together(settings: CollectionSettings, clouds: Floats, labels: NDArray[np.int64]) -> Clouds:
    """Return clouds that one file held, [B, N, C]."""
    thinned = np.stack([thin_out(cloud, settings.points, settings.sampling) for cloud in clouds])
    return torch.from_numpy(thinned).mT.contiguous(), torch.from_numpy(labels)


def _hdf5(settings: CollectionSettings, paths: Sequence[Path]) -> Clouds:
    parts = [_together(settings, *read_hdf5(path, settings.normals)) for path in paths]
    if not parts:
        raise UserError(f"{settings.name}: the list of HDF5 files is empty.")
    return torch.cat([clouds for clouds, _ in parts]), torch.cat([labels for _, labels in parts])


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f"It cannot be read: {error.strerror}.", where=str(path)) from error
