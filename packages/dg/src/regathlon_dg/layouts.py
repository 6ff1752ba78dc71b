"""Where data sets of several domains lie: declarations only, which import no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Part = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Layout:
    """One of the ways in which the files of a data set are laid out.

    Attributes:
        folder: The data set's folder, relative to the data root.
        domains: Each domain's name and its folder in there.
        parts: Each part and its folder between domain and class, ``<domain>/<part>/<class>/<image>``; empty where a
            domain's folder holds its classes, ``<domain>/<class>/<image>``.
        lists: Split lists, relative to the data root, with ``{domain}`` (the domain's folder) and ``{part}``; a line is
            the path of an image in ``folder`` and its label. Empty where there are none.
        list_parts: What stands for ``{part}`` of each part; a part whose list is not there has none.
        first_label: Label of the first class in the lists.
    """

    folder: str
    domains: tuple[tuple[str, str], ...]
    parts: tuple[tuple[Part, str], ...] = ()
    lists: str = ""
    list_parts: tuple[tuple[Part, str], ...] = (("train", "train"), ("val", "val"), ("test", "test"))
    first_label: int = 0


def same(*names: str) -> tuple[tuple[str, str], ...]:
    """Return domains whose folders have their names.

    Example:
        >>> same("photo", "sketch")
        (('photo', 'photo'), ('sketch', 'sketch'))
    """
    return tuple((name, name) for name in names)


KFOLD: tuple[tuple[Part, str], ...] = (
    ("train", "train_kfold"),
    ("val", "crossval_kfold"),
    ("test", "test_kfold"),
)
"""What the official lists of PACS call the parts."""

_PACS = same("art_painting", "cartoon", "photo", "sketch")
_VLCS = ("caltech", "labelme", "voc2007", "sun09")
_OFFICE_HOME = ("art", "clipart", "product", "real_world")
_DOMAIN_NET = same("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
_TRAIN_VAL: tuple[tuple[Part, str], ...] = (("train", "train"), ("val", "val"))


def _named(names: tuple[str, ...], *folders: str) -> tuple[tuple[str, str], ...]:
    return tuple(zip(names, folders, strict=True))


# Of each data set Dassl's layout comes first where there is one, then DomainBed's.
PACS = (
    Layout("pacs/images", _PACS, lists="pacs/splits/{domain}_{part}.txt", list_parts=KFOLD, first_label=1),
    Layout("PACS", _PACS, lists="splits/{domain}_{part}.txt", first_label=1),
)
VLCS = (
    Layout(
        "VLCS",
        _named(_VLCS, "CALTECH", "LABELME", "PASCAL", "SUN"),
        parts=(("train", "train"), ("val", "crossval"), ("test", "test")),
    ),
    Layout("VLCS", _named(_VLCS, "Caltech101", "LabelMe", "VOC2007", "SUN09")),
)
OFFICE_HOME = (
    Layout("office_home_dg", same(*_OFFICE_HOME), parts=_TRAIN_VAL),
    Layout("office_home", _named(_OFFICE_HOME, "Art", "Clipart", "Product", "Real World")),
    Layout("office_home", _named(_OFFICE_HOME, "Art", "Clipart", "Product", "Real")),
)
TERRA_INCOGNITA = (
    Layout("terra_incognita", same("location_100", "location_38", "location_43", "location_46")),
)
DOMAIN_NET = (
    Layout(
        "domainnet",
        _DOMAIN_NET,
        lists="domainnet/splits/{domain}_{part}.txt",
        list_parts=(("train", "train"), ("val", "test")),
    ),
    Layout("domain_net", _DOMAIN_NET),
)
DIGITS = (Layout("digits_dg", same("mnist", "mnist_m", "usps", "svhn", "syn"), parts=_TRAIN_VAL),)
