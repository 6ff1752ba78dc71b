"""What can be known of a regularizer, model or task without importing torch.

Everything that a suite names (a regularizer, a model, a task) is *declared* by a frozen dataclass: its fields
are the settings that a user may write, its class attributes say what it is and needs, and ``build()`` imports
the implementation. The command line plans, lists and validates from declarations alone; entry points refer to
them.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import importlib
import importlib.util
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from regathlon_core.errors import UserError
from regathlon_core.recipe import Recipe

if TYPE_CHECKING:
    import torch

    from regathlon_core.evaluation import Evaluation
    from regathlon_core.regularizer import Regularizer
    from regathlon_core.task import Task

_WORD = re.compile(r"[A-Za-z_][\w./-]*")
"""What a suite may write without quotes."""

CAPABILITIES: Mapping[str, str] = MappingProxyType(
    {
        "class_labels": "a cross-entropy over classes",
        "sample_labels": "one class label per sample",
        "box_labels": "boxes with a class label each",
        "grid_inputs": "inputs on a regular grid, [B, C, *spatial]",
        "pixels": "images that are made of pixels in [0, 1]",
        "point_inputs": "inputs that are clouds of points, [B, C, N]",
        "features": "named insertion points for feature-level layers",
        "views": "label-preserving random views of a batch",
        "soft_loss": "a loss between two outputs of the model",
        "occlude": "an absent value that parts of an input can be replaced by",
        "residual": "models with residual blocks",
        "domains": "training samples from several named domains",
        "unlabelled": "training samples without labels",
        "edges": "inputs that are graphs",
    }
)
"""What a task may offer and a regularizer may need, with the words that a skipped cell is explained in."""


class Stage(enum.IntEnum):
    """Where in a training step a regularizer acts; composed regularizers act in this order."""

    INPUT = 0
    """Changes single inputs (occlusion, noise)."""
    MIX = 1
    """Mixes samples and their labels; at most one in a composition."""
    LABEL = 2
    """Changes what the outputs are compared with."""
    FEATURE = 3
    """Acts inside the model, on named feature maps; any number compose."""
    LOSS = 4
    """Makes the step's loss terms; at most one in a composition."""


@dataclass(frozen=True)
class Declaration:
    """What regularizers, models and tasks have in common: a name, a version and an implementation.

    Subclasses are frozen dataclasses; their fields are the settings with their defaults.
    """

    name: ClassVar[str]
    """The name that suites use."""
    version: ClassVar[int] = 1
    """Raised by one whenever numbers may change; part of a trial's identity."""
    summary: ClassVar[str]
    """One line for listings."""
    implementation: ClassVar[str]
    """``"module:attribute"`` of what ``build`` calls."""
    citation: ClassVar[str] = ""
    """Whom to cite: keys of the ``references.bib`` beside it, separated by spaces; a card's BibTeX needs none."""
    weight_files: ClassVar[tuple[str, ...]] = ()
    """Settings that name a file with the weights of a trained model, or are empty: it is known by its contents."""
    requires: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Modules that it needs and its package does not bring by itself, and what to install for each."""

    # A mapping would not be hashable, so settings are scalars or tuples of scalars.
    def settings(self) -> dict[str, Any]:
        """Return all settings by name, defaults included."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def describe(self) -> dict[str, Any]:
        """Return the scientific description: name, version and every setting (part of a trial's identity).

        A file of weights is the hash of its contents; where it is not there, so that nothing can be trained, its name.
        """
        settings = self.settings()
        for name in self.weight_files:
            if settings[name] and (path := Path(settings[name]).expanduser()).is_file():
                state = path.stat()
                settings[name] = f"sha256:{_digest(path, state.st_ino, state.st_mtime_ns, state.st_size)}"
        return {"name": self.name, "version": self.version, "settings": settings}

    def missing(self) -> str | None:
        """Return why it cannot be built here, in words, or None where it can: a module or a file of weights is not there."""
        for module, install in self.requires.items():
            if importlib.util.find_spec(module) is None:
                return f"{self.name} needs {module}, which is not installed: pip install '{install}'"
        for name in self.weight_files:
            path = getattr(self, name)
            if path and not Path(path).expanduser().is_file():
                return f"{self.name} needs the weights {path}, and there is no such file"
        return None

    def __str__(self) -> str:
        """Write it as a suite would: the name and the settings that differ from their defaults."""
        changed = [
            f"{field.name}={_literal(getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{self.name}({', '.join(changed)})" if changed else self.name

    @classmethod
    def load(cls) -> Any:
        """Import and return the implementation."""
        module, _, attribute = cls.implementation.partition(":")
        return getattr(importlib.import_module(module), attribute)


@functools.lru_cache(maxsize=16)
def _digest(path: Path, *state: int) -> str:
    """Return the SHA-256 of a file, read again only where its state has changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _literal(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, tuple):
        return f"[{', '.join(_literal(item) for item in value)}]"
    if isinstance(value, str) and (not _WORD.fullmatch(value) or value in ("true", "false", "null")):
        quote = "'" if '"' in value else '"'
        return f"{quote}{value}{quote}"
    return str(value)


@dataclass(frozen=True)
class Applicable(Declaration):
    """A declaration of something that not every task allows: a regularizer or an evaluation."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """What the task must offer (keys of ``CAPABILITIES``)."""

    def refusal(self, task: TaskSettings) -> str | None:
        """Return why it cannot run on this task, or None where it can."""
        missing = sorted(self.needs - task.provides)
        if missing:
            wanted = " and ".join(CAPABILITIES.get(name, name) for name in missing)
            return f"{self.name} needs {wanted}, which {task.name} does not offer"
        return None


@dataclass(frozen=True)
class RegularizerSettings(Applicable):
    """Declares a regularizer. Subclass it as a frozen dataclass beside the implementation.

    Example:
        >>> from regathlon_core import DropBlockSettings
        >>> str(DropBlockSettings(p=0.2)), DropBlockSettings.stage.name, sorted(DropBlockSettings.needs)
        ('dropblock(p=0.2)', 'FEATURE', ['features'])
    """

    stage: ClassVar[Stage]
    """Where in the step it acts; decides the order in a composition."""
    zero: ClassVar[Mapping[str, Any] | None] = None
    """Settings at which it is exactly the identity, for the conformance kit; None where there are none."""
    acting: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Settings at which it clearly acts on small inputs in a few steps, for the kit, which brings files of weights that are
    named and not there; else the defaults."""

    def build(self) -> Regularizer[Any]:
        """Return the regularizer with these settings."""
        regularizer: Regularizer[Any] = self.load()(self)
        return regularizer


def check_composition(parts: Sequence[RegularizerSettings]) -> tuple[RegularizerSettings, ...]:
    """Return the parts in the order they act, or refuse two that cannot act together.

    Args:
        parts: The regularizers in any order.

    Raises:
        UserError: Two parts both mix labels, or both make the loss terms, or the same one is there twice.

    Example:
        >>> from regathlon_core import CutMixSettings, DropBlockSettings
        >>> [part.name for part in check_composition([DropBlockSettings(), CutMixSettings()])]
        ['cutmix', 'dropblock']
    """
    why = {Stage.MIX: "both mix samples and labels", Stage.LOSS: "both make the step's loss terms"}
    ordered = tuple(sorted(parts, key=lambda part: part.stage))
    for first, second in itertools.pairwise(ordered):
        if first.stage == second.stage and first.stage in why:
            raise UserError(
                f"{first.name} and {second.name} cannot be combined: {why[first.stage]}. "
                f"Keep one of them; regularizers of other stages compose with either."
            )
    names = [part.name for part in ordered]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{name} stands twice in one composition. Write it once.")
    return ordered


@dataclass(frozen=True)
class EvaluationSettings(Applicable):
    """Declares an evaluation: what is measured or drawn on the model of a finished trial."""

    def build(self, data: Path | None = None) -> Evaluation[Any]:
        """Return the evaluation.

        Args:
            data: Folder that holds downloaded data sets.
        """
        evaluation: Evaluation[Any] = self.load()(self, data)
        return evaluation


@dataclass(frozen=True)
class ModelSettings(Declaration):
    """Declares a model of a task; the implementation is called with the settings and the task."""

    def build(self, task: Task) -> torch.nn.Module:
        """Return a freshly initialised model that fits the task (classes, channels).

        Raises:
            UserError: A module that it needs is not installed; or its implementation says why it cannot be built.
        """
        reason = self.missing()
        if reason is not None:
            raise UserError(f"{reason}.")
        model: torch.nn.Module = self.load()(self, task)
        return model


@dataclass(frozen=True)
class TaskSettings(Declaration):
    """Declares a task: one learning problem with its data, models, recipe and metrics."""

    dataset: ClassVar[str]
    """Name of its data set's manifest."""
    provides: ClassVar[frozenset[str]]
    """What it offers to regularizers (keys of ``CAPABILITIES``)."""
    views: ClassVar[tuple[str, ...]] = ()
    """Kinds of random view that it offers ("scale", "rotation", ...), the usual one first; with "views"."""
    taught_by: ClassVar[Literal["soft", "hard"]] = "soft"
    """What sub-networks learn from unless told otherwise: the full network's outputs, or the labels; with "views"."""
    domains: ClassVar[tuple[str, ...]] = ()
    """Names of its domains, in the order of ``Batch.domain``; with "domains"."""
    models: ClassVar[tuple[type[ModelSettings], ...]]
    """The models that fit it; the first is the default."""
    recipe: ClassVar[Recipe]
    """Optimizer, schedule and budget unless a suite says otherwise."""
    metric: ClassVar[str]
    """The metric that leaderboards show; larger is better unless ``lower_is_better``."""
    lower_is_better: ClassVar[bool] = False

    @property
    def area(self) -> str:
        """The part of the name before the slash: vision, segmentation, points, ..."""
        return self.name.partition("/")[0]

    def grid(self) -> tuple[TaskSettings, ...]:
        """Return the tasks that it stands for in a suite: one per held-out domain, if there are several."""
        return (self,)

    def of_seed(self, seed: int) -> TaskSettings:
        """Return the task as a trial of this seed sees it: another one where the seed also draws the split."""
        return self

    def build(self, data: Path | None = None) -> Task:
        """Return the task with its data loaded.

        Args:
            data: Folder that holds downloaded data sets; embedded ones need none.

        Raises:
            UserError: The data is not there or is damaged; the message names the command that gets it.
        """
        task: Task = self.load()(self, data)
        return task


Selection = Literal["last", "best_val", "oracle"]
