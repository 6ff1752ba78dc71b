"""Whom to cite: BibTeX from the cards of regularizers and evaluations, from declarations and from data sets."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regathlon import datasets, plugins
from regathlon.leaderboard import BASELINE
from regathlon.results import Results
from regathlon_core.errors import UserError, unknown
from regathlon_core.notation import parse
from regathlon_core.settings import Declaration

_BLOCK = re.compile(r"^```bibtex\n(.*?)^```", re.DOTALL | re.MULTILINE)
_START = re.compile(r"@(\w+)\s*\{\s*([^,\s}]+)\s*,")


@dataclass(frozen=True)
class Bibliography:
    """What a run used.

    Attributes:
        entries: BibTeX by key.
        used: For each key, what it is cited for: regularizers, models, tasks, data sets.
        missing: What names nothing to cite, or is not installed here.
    """

    entries: Mapping[str, str]
    used: Mapping[str, tuple[str, ...]]
    missing: tuple[str, ...]


def bibliography(results: Results) -> Bibliography:
    """Return whom to cite for a run: everything that its cells name, in their order.

    Args:
        results: Of a run; cells that were skipped count too, as they stand in its tables.
    """
    found: dict[str, str] = {}
    used: dict[str, list[str]] = {}
    missing: list[str] = []
    for what, bibtex in _texts(results):
        entries = split(bibtex)
        if not entries:
            missing.append(what)
        for key, entry in entries.items():
            found.setdefault(key, entry)
            used.setdefault(key, []).append(what)
    return Bibliography(found, {key: tuple(names) for key, names in used.items()}, tuple(missing))


def to_bibtex(results: Results) -> str:
    """Return the BibTeX of a run; comments say what each entry is cited for."""
    found = bibliography(results)
    parts = [f"% {', '.join(found.used[key])}\n{entry}\n" for key, entry in found.entries.items()]
    if found.missing:
        parts.append(f"% Names nothing to cite, or is not installed here: {', '.join(found.missing)}\n")
    return "\n".join(parts)


def split(bibtex: str) -> dict[str, str]:
    """Return the entries of a text by their keys.

    Example:
        >>> split("@book{a, title={A {B}}}  @misc{c, note={d}}")
        {'a': '@book{a, title={A {B}}}', 'c': '@misc{c, note={d}}'}
    """
    entries: dict[str, str] = {}
    for start in _START.finditer(bibtex):
        depth = 0
        for position in range(start.start(), len(bibtex)):
            depth += {"{": 1, "}": -1}.get(bibtex[position], 0)
            if bibtex[position] == "}" and depth == 0:
                entries.setdefault(start.group(2), bibtex[start.start() : position + 1])
                break
    return entries


def card(declared: type[Declaration]) -> str | None:
    """Return the ``card.md`` beside a declaration, without importing more than is imported already."""
    return _beside(declared, "card.md")


def citation(declared: type[Declaration]) -> str:
    """Return the BibTeX of a declaration; empty where it names nothing.

    Raises:
        UserError: It names a key that the file beside it does not have.
    """
    known = split(_beside(declared, "references.bib") or "")
    for key in declared.citation.split():
        if key not in known:
            raise unknown(f"citation of {declared.name}", key, known)
    return "\n".join(
        [*(known[key] for key in declared.citation.split()), *_BLOCK.findall(card(declared) or "")]
    )


def _beside(declared: type[Declaration], name: str) -> str | None:
    spec = importlib.util.find_spec(declared.__module__)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).with_name(name)
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def _texts(results: Results) -> Iterator[tuple[str, str]]:
    """Yield what was used, each once, and its BibTeX."""
    version = importlib.metadata.version("regathlon")
    yield (
        "regathlon",
        (
            "@software{regathlon,\n  title = {Regathlon: cross-modality benchmarks of neural-network regularizers},\n"
            f"  author = {{{{The Regathlon developers}}}},\n  version = {{{version}}},\n}}"
        ),
    )
    seen: set[tuple[str, str]] = set()
    for outcome in results.outcomes:
        for kind, name, task in _names(outcome.cell):
            if (kind, name) in seen:
                continue
            seen.add((kind, name))
            bibtex = _bibtex(kind, name, task)
            # The baseline is nobody's, and a task without a citation of its own is its data set's.
            if bibtex or (kind != "task" and name != BASELINE):
                yield name if kind != "dataset" else f"data set {name}", bibtex


def _names(cell: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    task = str(cell["task"]).partition("(")[0]
    try:
        for call in parse(cell["regularizer"], kind="regularizer"):
            yield "regularizer", call.name, task
    except UserError:
        yield "regularizer", str(cell["regularizer"]), task
    yield "task", task, task
    if cell["dataset"]:
        yield "dataset", str(cell["dataset"]), task
    if cell["model"]:
        yield "model", str(cell["model"]).partition("(")[0], task
    for evaluation in cell.get("evaluations") or ():
        yield "evaluation", str(evaluation).partition("(")[0], task


def _bibtex(kind: str, name: str, task: str) -> str:
    if kind == "dataset":
        return datasets.citation(name)
    try:
        if kind != "model":
            return citation(plugins.load(kind, name))
        models = {model.name: model for model in plugins.load("task", task).models}
        return citation(models[name]) if name in models else ""
    except UserError:
        return ""
