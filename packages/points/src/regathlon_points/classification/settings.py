"""What tasks there are and what can be set about them; imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from regathlon_core.errors import UserError, unknown
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.settings import ModelSettings, TaskSettings
from regathlon_points.models.settings import DGCNNSettings, PointNet2Settings, PointNetSettings

MODELS: tuple[type[ModelSettings], ...] = (PointNetSettings, PointNet2Settings, DGCNNSettings)


@dataclass(frozen=True)
class ShapesSettings(TaskSettings):
    """Ten kinds of solids, each instance of its own proportions, sampled, noisy and turned.

    Attributes:
        points: Points of a cloud, at least 1.
        noise: Standard deviation of the noise on every coordinate, in radii of the shape.
    """

    name: ClassVar[str] = "points/shapes"
    summary: ClassVar[str] = "clouds sampled from ten kinds of meshes of random proportions"
    implementation: ClassVar[str] = "regathlon_points.classification.shapes:Shapes"
    dataset: ClassVar[str] = "shapes"
    provides: ClassVar[frozenset[str]] = frozenset(
        {"class_labels", "sample_labels", "point_inputs", "features", "views", "soft_loss", "occlude"}
    )
    views: ClassVar[tuple[str, ...]] = ("scale", "rotation", "subsample")
    models: ClassVar[tuple[type[ModelSettings], ...]] = MODELS
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adam", lr=0.008, weight_decay=1e-4, batch_size=20, budget=Budget(epochs=30), eval_every=5
    )
    metric: ClassVar[str] = "accuracy"
    points: int = 256
    noise: float = 0.02

    def __post_init__(self) -> None:
        if self.points < 1:
            raise UserError(f"points/shapes: a cloud has at least 1 point, not points={self.points}.")
        if not (math.isfinite(self.noise) and self.noise >= 0):
            raise UserError(f"points/shapes: noise is a standard deviation of at least 0, not {self.noise}.")


Sampling = Literal["farthest", "first"]

_RECIPE = Recipe(
    optimizer="adam",
    lr=1e-3,
    weight_decay=1e-4,
    schedule="step",
    milestones=(0.2, 0.4, 0.6, 0.8),
    gamma=0.7,
    batch_size=32,
    budget=Budget(epochs=100),
)
"""How RelDrop trains PointNet++ (arXiv 2505.21595): Adam, the rate times 0.7 every 20 of 100 epochs."""


@dataclass(frozen=True)
class CollectionSettings(TaskSettings):
    """What published collections of clouds declare alike.

    Attributes:
        points: Points of a cloud.
        sampling: Which of the file's points: ``"farthest"`` points, which cover it evenly, or the ``"first"``
            ones.
        normals: Whether normals are channels 3 to 5; not every source has them.
        votes: How many turns about the up axis vote on the class of a test cloud.
        scale: Smallest and largest factor on training clouds.
        axis_scale: A factor for each axis, as DGCNN's code draws it.
        shift: Largest shift of training clouds along each axis.
        rotation: Whether training clouds are turned about the up axis.
        jitter: Standard deviation of noise on training clouds' coordinates.
        point_dropout: Largest share of points that a training cloud loses (PointNet++'s code: 0.875).
    """

    implementation: ClassVar[str] = "regathlon_points.classification.published:Collection"
    provides: ClassVar[frozenset[str]] = ShapesSettings.provides
    views: ClassVar[tuple[str, ...]] = ShapesSettings.views
    models: ClassVar[tuple[type[ModelSettings], ...]] = (PointNet2Settings, DGCNNSettings, PointNetSettings)
    recipe: ClassVar[Recipe] = _RECIPE
    metric: ClassVar[str] = "accuracy"
    points: int = 1024
    sampling: Sampling = "farthest"
    normals: bool = False
    votes: int = 1
    scale: tuple[float, float] = (0.8, 1.25)
    axis_scale: bool = False
    shift: float = 0.1
    rotation: bool = False
    jitter: float = 0.0
    point_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("points", "votes"):
            if getattr(self, name) < 1:
                raise UserError(f"{self.name}: {name} must be at least 1, not {getattr(self, name)}.")
        if self.sampling not in get_args(Sampling):
            raise unknown(f"sampling of {self.name}", self.sampling, get_args(Sampling))
        low, high = self.scale
        if not 0 < low <= high < math.inf:
            raise UserError(f"{self.name}: scale is two rising factors above 0, not {list(self.scale)}.")
        for name in ("shift", "jitter"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{self.name}: {name} must be at least 0, not {getattr(self, name)}.")
        if not 0 <= self.point_dropout < 1:
            raise UserError(f"{self.name}: point_dropout is a share in [0, 1), not {self.point_dropout}.")

    def _check_source(self, source: str, sources: tuple[str, ...], with_normals: tuple[str, ...]) -> None:
        if source not in sources:
            raise unknown(f"source of {self.name}", source, sources)
        if self.normals and source not in with_normals:
            raise UserError(
                f"{self.name}: source {source!r} has no normals; "
                f"{' and '.join(repr(name) for name in with_normals) or 'no source'} has."
            )


ModelNet40Source = Literal["hdf5", "normals", "meshes"]


@dataclass(frozen=True)
class ModelNet40Settings(CollectionSettings):
    """ModelNet40: CAD models of 40 kinds, 9,843 to train on and 2,468 to test.

    Attributes:
        source: ``"hdf5"``, the clouds of 2,048 points (9,840 to train on); ``"normals"``, the resampled text
            files of 10,000 points; ``"meshes"``, the original ``.off`` files.
    """

    name: ClassVar[str] = "points/modelnet40"
    summary: ClassVar[str] = "ModelNet40 from its HDF5 files, text files with normals, or meshes"
    source: ModelNet40Source = "hdf5"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_source(self.source, get_args(ModelNet40Source), ("hdf5", "normals", "meshes"))

    @property
    def dataset(self) -> str:  # type: ignore[override]
        """Name of the manifest: every source is a data set of its own."""
        return f"modelnet40-{self.source}"


ModelNet10Source = Literal["meshes", "subset", "normals"]


@dataclass(frozen=True)
class ModelNet10Settings(CollectionSettings):
    """ModelNet10: CAD models of ten kinds, 3,991 to train on and 908 to test.

    Attributes:
        source: ``"meshes"``, the original ``.off`` files; ``"normals"``, the resampled text files;
            ``"subset"``, chairs and monitors in one small file.
    """

    name: ClassVar[str] = "points/modelnet10"
    summary: ClassVar[str] = (
        "ModelNet10 from its meshes or text files, or two of its classes from a small file"
    )
    source: ModelNet10Source = "meshes"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_source(self.source, get_args(ModelNet10Source), ("meshes", "normals"))

    @property
    def dataset(self) -> str:  # type: ignore[override]
        """Name of the manifest: every source is a data set of its own."""
        return f"modelnet10-{self.source}"


@dataclass(frozen=True)
class ShapeNet16Settings(CollectionSettings):
    """ShapeNet, the 16 kinds that are annotated with parts: 12,137 shapes to train on, 1,870 and 2,874 held out."""

    name: ClassVar[str] = "points/shapenet16"
    summary: ClassVar[str] = "ShapeNet, 16 kinds, with normals"
    dataset: ClassVar[str] = "shapenet16"


@dataclass(frozen=True)
class ShapeNet55Settings(CollectionSettings):
    """ShapeNet, all 55 kinds: 41,952 shapes to train on, 10,518 to test."""

    name: ClassVar[str] = "points/shapenet55"
    summary: ClassVar[str] = "ShapeNet, 55 kinds"
    dataset: ClassVar[str] = "shapenet55"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.normals:
            raise UserError(f"{self.name}: its files have no normals.")


Variant = Literal["hardest", "plain"]


@dataclass(frozen=True)
class ScanObjectNNSettings(CollectionSettings):
    """ScanObjectNN: scanned objects of 15 kinds.

    Attributes:
        variant: ``"hardest"``: boxes shifted, turned and scaled (PB_T50_RS); ``"plain"``: as annotated.
        background: Whether points around the object are kept.
    """

    name: ClassVar[str] = "points/scanobjectnn"
    summary: ClassVar[str] = "ScanObjectNN: scanned objects of 15 kinds"
    variant: Variant = "hardest"
    background: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant not in get_args(Variant):
            raise unknown(f"variant of {self.name}", self.variant, get_args(Variant))
        if self.normals:
            raise UserError(f"{self.name}: its files have no normals.")

    @property
    def dataset(self) -> str:  # type: ignore[override]
        """Name of the manifest: every variant is a data set of its own."""
        return f"scanobjectnn-{self.variant}{'' if self.background else '-objects'}"
