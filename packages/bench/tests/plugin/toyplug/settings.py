"""Declarations; import no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from regathlon_core.errors import UserError
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.settings import (
    EvaluationSettings,
    ModelSettings,
    RegularizerSettings,
    Stage,
    TaskSettings,
)


@dataclass(frozen=True)
class LinearSettings(ModelSettings):
    """One linear layer, which pretends to begin with weights of a file."""

    name: ClassVar[str] = "linear"
    summary: ClassVar[str] = "one linear layer"
    implementation: ClassVar[str] = "toyplug.implementation:build_linear"
    weight_files: ClassVar[tuple[str, ...]] = ("weights",)
    weights: str = ""


@dataclass(frozen=True)
class MlpSettings(ModelSettings):
    """Two layers with dropout, so that the model itself draws random numbers."""

    name: ClassVar[str] = "mlp"
    summary: ClassVar[str] = "two layers"
    implementation: ClassVar[str] = "toyplug.implementation:build_mlp"
    width: int = 8


@dataclass(frozen=True)
class LackingSettings(MlpSettings):
    """Needs a module that is nowhere."""

    name: ClassVar[str] = "lacking_mlp"
    requires: ClassVar[dict[str, str]] = {"toyplug_extra": "toyplug[extra]"}


@dataclass(frozen=True)
class BlobsSettings(TaskSettings):
    """Three Gaussian blobs."""

    name: ClassVar[str] = "toy/blobs"
    summary: ClassVar[str] = "three Gaussian blobs"
    implementation: ClassVar[str] = "toyplug.implementation:Blobs"
    dataset: ClassVar[str] = "blobs"
    provides: ClassVar[frozenset[str]] = frozenset({"class_labels", "sample_labels", "soft_loss"})
    models: ClassVar[tuple[type[ModelSettings], ...]] = (MlpSettings, LinearSettings, LackingSettings)
    recipe: ClassVar[Recipe] = Recipe(lr=0.05, batch_size=16, budget=Budget(epochs=3))
    metric: ClassVar[str] = "accuracy"
    spread: float = 0.7


@dataclass(frozen=True)
class ShiftedSettings(BlobsSettings):
    """Blobs in two places; each is held out once."""

    name: ClassVar[str] = "toy/shifted"
    summary: ClassVar[str] = "blobs in two places"
    test: str = ""

    def grid(self) -> tuple[TaskSettings, ...]:
        if self.test:
            return (self,)
        return tuple(replace(self, test=place) for place in ("here", "far there"))


@dataclass(frozen=True)
class DownloadedSettings(BlobsSettings):
    """A task whose data set must be fetched."""

    name: ClassVar[str] = "toy/downloaded"
    summary: ClassVar[str] = "needs files"
    dataset: ClassVar[str] = "toy-files"


@dataclass(frozen=True)
class WeightsSettings(EvaluationSettings):
    """Draws the weights; fails where it is told to."""

    name: ClassVar[str] = "weights"
    summary: ClassVar[str] = "draws the weights"
    implementation: ClassVar[str] = "toyplug.implementation:Weights"
    fail: bool = False


@dataclass(frozen=True)
class GriddedSettings(WeightsSettings):
    """Needs what the toy task does not offer."""

    name: ClassVar[str] = "gridded"
    summary: ClassVar[str] = "needs a grid"
    needs: ClassVar[frozenset[str]] = frozenset({"grid_inputs"})


@dataclass(frozen=True)
class NoiseSettings(RegularizerSettings):
    """Gaussian noise on the inputs."""

    name: ClassVar[str] = "noise"
    summary: ClassVar[str] = "Gaussian noise on the inputs"
    implementation: ClassVar[str] = "toyplug.implementation:Noise"
    stage: ClassVar[Stage] = Stage.INPUT
    scale: float = 0.1
    kind: Literal["normal", "uniform"] = "normal"
    axes: tuple[int, ...] = ()
    label: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and 0 <= self.scale <= 1):
            raise UserError(f"scale must lie in [0, 1], not {self.scale}.")


@dataclass(frozen=True)
class SlowSettings(RegularizerSettings):
    """Sleeps in every step."""

    name: ClassVar[str] = "slow"
    summary: ClassVar[str] = "sleeps"
    implementation: ClassVar[str] = "toyplug.implementation:Slow"
    stage: ClassVar[Stage] = Stage.LABEL
    seconds: float = 0.05


@dataclass(frozen=True)
class MixSettings(RegularizerSettings):
    """Stands for something that mixes labels."""

    name: ClassVar[str] = "mix"
    summary: ClassVar[str] = "mixes"
    implementation: ClassVar[str] = "toyplug.implementation:Noise"
    stage: ClassVar[Stage] = Stage.MIX


@dataclass(frozen=True)
class BlendSettings(MixSettings):
    """Stands for another one."""

    name: ClassVar[str] = "blend"


@dataclass(frozen=True)
class GraphOnlySettings(RegularizerSettings):
    """Needs what no toy offers."""

    name: ClassVar[str] = "graph_only"
    summary: ClassVar[str] = "needs domains"
    implementation: ClassVar[str] = "toyplug.implementation:Noise"
    stage: ClassVar[Stage] = Stage.INPUT
    needs: ClassVar[frozenset[str]] = frozenset({"domains"})


@dataclass(frozen=True)
class BoomSettings(RegularizerSettings):
    """Ends a trial in a way of one's choice, in its fifth step."""

    name: ClassVar[str] = "boom"
    summary: ClassVar[str] = "goes wrong"
    implementation: ClassVar[str] = "toyplug.implementation:Boom"
    stage: ClassVar[Stage] = Stage.LOSS
    how: Literal["raise", "nan", "exit", "leave", "segv", "kill", "memory", "damaged"] = "raise"
    seed: int = 0
