"""Which file of a data set belongs to which domain, class and part."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from regathlon_core.errors import UserError
from regathlon_dg.layouts import Layout, Part
from regathlon_vision.images import ENDINGS

Labelled = tuple[Path, int]
"""An image and its label, counted from 0."""


@dataclass(frozen=True)
class Files:
    """A data set's files.

    Attributes:
        classes: Names of the classes, in the order of the labels.
        domains: Of each domain the files of its parts: those that the data set has ("train", "val", "test"), or
            "train" alone where it has none of its own.
    """

    classes: tuple[str, ...]
    domains: Mapping[str, Mapping[Part, tuple[Labelled, ...]]]


def find_layout(layouts: Sequence[Layout], domains: Sequence[str], root: Path, name: str) -> Layout:
    """Return the layout in which the data lies.

    Args:
        layouts: Those that it may have, in the order of preference.
        domains: Names of the domains that are wanted.
        root: Folder of data sets.
        name: What messages call the data set.

    Raises:
        UserError: It is not there, or a domain is missing.
    """
    present = [layout for layout in layouts if (root / layout.folder).is_dir()]
    if not present:
        places = " or ".join(dict.fromkeys(layout.folder for layout in layouts))
        raise UserError(f"The data of {name} is not there: no folder {places}.", where=str(root))

    def found(layout: Layout) -> list[str]:
        folders = dict(layout.domains)
        return [domain for domain in domains if (root / layout.folder / folders[domain]).is_dir()]

    best = max(present, key=lambda layout: len(found(layout)))
    here = found(best)
    missing = [dict(best.domains)[domain] for domain in domains if domain not in here]
    if missing:
        hint = f" To go on with those that are there: only=[{', '.join(here)}]." if len(here) > 1 else ""
        raise UserError(
            f"{name} has no folder of the domain {' and '.join(missing)}; there is {', '.join(here) or 'none'}.{hint}",
            where=str(root / best.folder),
        )
    return best


def read_files(
    layouts: Sequence[Layout],
    domains: Sequence[str],
    root: Path,
    name: str,
    *,
    official: bool = True,
    corrupt: Sequence[str] = (),
) -> Files:
    """Find all files of a data set.

    Args:
        layouts: See ``find_layout``.
        domains: Likewise.
        root: Folder of data sets.
        name: What messages call the data set.
        official: Whether the data set's own parts are wanted; else a domain is one part, "train".
        corrupt: Files that are known to be damaged, relative to the data set's folder; they are left out.

    Raises:
        UserError: Data is missing, a domain is empty or lacks a class that another one has, or a split list names files
            that are not there or labels that do not fit.
    """
    layout = find_layout(layouts, domains, root, name)
    folder = root / layout.folder
    left_out = {folder / path for path in corrupt}
    found = {domain: _scan(folder / dict(layout.domains)[domain], layout, left_out) for domain in domains}
    classes = _common_classes({domain: set().union(*parts.values()) for domain, parts in found.items()}, name)
    label = {entry: number for number, entry in enumerate(classes)}
    labelled: dict[str, dict[Part, tuple[Labelled, ...]]] = {}
    for domain, parts in found.items():
        whole = {
            part: tuple((path, label[entry]) for entry in sorted(files) for path in files[entry])
            for part, files in parts.items()
        }
        if official and layout.lists:
            whole = _by_lists(root, layout, domain, whole["train"], classes, left_out) or whole
        labelled[domain] = whole if official else {"train": tuple(_all(whole))}
    return Files(classes, labelled)


def _scan(folder: Path, layout: Layout, left_out: set[Path]) -> dict[Part, dict[str, list[Path]]]:
    """Return the images of each class of each part of a domain."""
    parts: dict[Part, dict[str, list[Path]]] = {}
    for part, name in layout.parts or (("train", ""),):
        place = folder / name
        if not place.is_dir():
            raise UserError(f"There is no folder {name!r} in this domain.", where=str(folder))
        entries = sorted(entry.name for entry in os.scandir(place) if entry.is_dir())
        images = {
            entry: [path for path in _images(place / entry) if path not in left_out] for entry in entries
        }
        parts[part] = {entry: paths for entry, paths in images.items() if paths}
        if not parts[part]:
            raise UserError("There are no images in the folder of this domain.", where=str(place))
    return parts


def _images(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if Path(entry.name).suffix.lower() in ENDINGS)
    return [folder / name for name in names]


def _common_classes(classes: Mapping[str, set[str]], name: str) -> tuple[str, ...]:
    """Return the classes, which must be those of every domain."""
    if len(classes) < 2:
        raise UserError(
            f"{name} needs at least two domains, one to train on and one to test on; "
            f"there is only {', '.join(classes) or 'none'}."
        )
    every = set().union(*classes.values())
    lacking = [
        f"{domain} has no class {', '.join(sorted(every - own)[:5])}"
        for domain, own in classes.items()
        if own != every
    ]
    if lacking:
        raise UserError(
            f"The domains of {name} do not have the same classes: {'; '.join(lacking)}. "
            f"Every domain needs a folder of every class."
        )
    return tuple(sorted(every))


def _by_lists(
    root: Path,
    layout: Layout,
    domain: str,
    files: Iterable[Labelled],
    classes: Sequence[str],
    left_out: set[Path],
) -> dict[Part, tuple[Labelled, ...]] | None:
    """Return a domain's parts as its split lists have them; None where there is no list."""
    known = dict(files)
    folder = dict(layout.domains)[domain]
    lists = {part: root / layout.lists.format(domain=folder, part=name) for part, name in layout.list_parts}
    there = {part: path for part, path in lists.items() if path.is_file()}
    if not there:
        return None
    for part in ("train", "val"):
        if part not in there:
            raise UserError(
                f"There is no such split list, though there is {next(iter(there.values())).name}.",
                where=str(lists[part]),
            )
    return {
        part: tuple(_read_list(path, root / layout.folder, known, classes, layout.first_label, left_out))
        for part, path in there.items()
    }


def _read_list(
    path: Path,
    folder: Path,
    known: Mapping[Path, int],
    classes: Sequence[str],
    first_label: int,
    left_out: set[Path],
) -> Iterable[Labelled]:
    """Yield the images of a split list, whose lines are a path and a label."""
    missing: list[str] = []
    chosen: list[Labelled] = []
    last = first_label + len(classes) - 1
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        name, _, written = line.rpartition(" ")
        if not name or not written.isdecimal():
            raise UserError(f"Line {number} is no path and label: {line!r}.", where=str(path))
        image = folder / PurePosixPath(name.strip())
        if image in left_out:
            continue
        label = known.get(image)
        if label is None:
            missing.append(name)
            continue
        if int(written) != label + first_label:
            raise UserError(
                f"Line {number} gives {name} the label {written}; of the class {classes[label]!r} it is "
                f"{label + first_label}: the labels of these lists go from {first_label} to {last}.",
                where=str(path),
            )
        chosen.append((image, label))
    if missing:
        raise UserError(f"It names {some(missing)}, not in {folder}.", where=str(path))
    return chosen


def _all(parts: Mapping[Part, Iterable[Labelled]]) -> list[Labelled]:
    """Return every image of a domain once, sorted."""
    return sorted({path: label for files in parts.values() for path, label in files}.items())


def some(names: Sequence[str], shown: int = 5) -> str:
    """Return how many files there are and the first few, for messages."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{len(names)} files: {', '.join(names[:shown])}{more}"
