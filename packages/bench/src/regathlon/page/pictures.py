"""The trials' pictures, made small enough that the page stays light; what is left out is counted."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from regathlon.results import Outcome
from regathlon.store import RunFolder

BYTES = 3_000_000
"""Of all pictures together, before base64 adds a third."""
COUNT = 400
"""Of all pictures; more would be slow to make, and to look at."""
SIDE, SIDE_OF_MANY, MANY = 320, 176, 120
"""Longest side in pixels; that of each when there are many; how many that is."""
_LARGEST_FILE = 30_000_000
_RECORD = re.compile(r"^.+\.[0-9a-f]{8}\.")
"""What a picture's file name begins with: the evaluation that drew it."""


@dataclass(frozen=True)
class Picture:
    """A trial's picture.

    Attributes:
        outcome: Of the trial.
        name: The evaluation and the picture's own name; the same for the same picture of other trials.
        caption: As the evaluation wrote it; empty where it wrote none.
        source: A ``data:`` URI; None where the file cannot be read.
        width: Of what is shown, in pixels.
        height: Likewise.
        problem: Why there is nothing to show.
    """

    outcome: Outcome
    name: str
    caption: str
    source: str | None
    width: int = 0
    height: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Gallery:
    """The pictures of a run.

    Attributes:
        pictures: Those on the page, first seeds first.
        left_out: Number of further pictures by the trial's folder.
        side: Longest side of a picture on the page.
    """

    pictures: tuple[Picture, ...]
    left_out: Mapping[str, int]
    side: int


def gallery(outcomes: Iterable[Outcome], run: RunFolder) -> Gallery:
    """Read the pictures of all trials.

    Args:
        outcomes: Of a run. The first seed of every cell comes first, so that what is left out is repetition.
        run: Where they are.
    """
    found = [
        (outcome, *shown)
        for outcome in sorted(outcomes, key=lambda outcome: int(outcome.cell["seed"]))
        for shown in _shown(outcome, run)
    ]
    side = SIDE_OF_MANY if len(found) > MANY else SIDE
    pictures: list[Picture] = []
    left_out: dict[str, int] = {}
    spent = 0
    for outcome, file, name, caption in found:
        picture = None
        if len(pictures) < COUNT and spent < BYTES:
            picture, size = _read(outcome, file, name, caption, side)
            if spent + size > BYTES:
                picture = None
            else:
                spent += size
        if picture is None:
            folder = str(outcome.cell["folder"])
            left_out[folder] = left_out.get(folder, 0) + 1
        else:
            pictures.append(picture)
    return Gallery(tuple(pictures), left_out, side)


def _shown(outcome: Outcome, run: RunFolder) -> Iterator[tuple[Path, str, str]]:
    """Yield file, name and caption of a trial's pictures: those of its evaluations, then any others that lie there."""
    folder = outcome.cell.get("folder")
    if not isinstance(folder, str):
        return
    told = set()
    for evaluated in outcome.evaluations:
        for picture in evaluated.pictures:
            told.add(picture.path)
            name = _RECORD.sub("", picture.path.stem)
            yield picture.path, f"{evaluated.name}: {name}", picture.caption
    root = run.trial(folder).pictures
    for file in sorted(root.rglob("*.png")) if root.is_dir() else ():
        if file not in told and not _RECORD.match(file.stem):
            yield file, file.relative_to(root).with_suffix("").as_posix(), ""


def _read(outcome: Outcome, file: Path, name: str, caption: str, side: int) -> tuple[Picture, int]:
    """Return a picture no larger than wanted, and its size in bytes."""
    from PIL import Image

    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise ValueError("the file is too large")
        raw = file.read_bytes()
        with Image.open(io.BytesIO(raw), formats=("PNG",)) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or 0):
                raise ValueError("it has too many pixels")
            small = image.convert("RGB")
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
    except Exception as error:  # whatever a damaged file makes a decoder raise
        return Picture(outcome, name, caption, None, problem=f"cannot be read: {error}"), 0
    kind = "png"
    if small.size != image.size or len(raw) > 6_000:
        out = io.BytesIO()
        small.save(out, "WEBP", quality=80, method=2)
        if len(out.getvalue()) < len(raw):
            kind, raw = "webp", out.getvalue()
    source = f"data:image/{kind};base64,{base64.b64encode(raw).decode('ascii')}"
    return Picture(outcome, name, caption, source, small.width, small.height), len(raw)
