"""Settings of DropGraph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from regathlon_core.errors import UserError
from regathlon_core.regularizers.checks import (
    check_choice,
    check_count,
    check_number,
    check_places,
    check_rates,
)
from regathlon_core.settings import RegularizerSettings, Stage

Adjacency = Literal["dissimilarity", "learned", "similarity", "identity", "uniform"]
Distortion = Literal["graph", "noise", "average", "conv", "dilated_conv"]
Pool = Literal["mean", "none"]
Schedule = Literal["constant", "linear", "cubic", "logistic", "cosine", "cubic_out"]


_MOST_LEARNED = 256


@dataclass(frozen=True)
class DropGraphSettings(RegularizerSettings):
    """DropGraph: replace dropped features by distortions that a graph of sampled feature vectors reasons out.

    Attributes:
        p: Distortion probability at full strength, in [0, 1] (rho in the paper).
        alpha: Share of positions that become vertices of the graph, in (0, 1].
        block_size: Side of the distorted blocks, in positions; 1 for points and nodes.
        schedule: How ``p`` grows over training: the paper's f1 ``"linear"``, f2 ``"cubic"``, f3 ``"logistic"``, f4
            ``"cosine"``, f5 ``"cubic_out"``; or ``"constant"``.
        pool: ``"mean"``: one distortion for the whole map (Algorithm 1); ``"none"``: each distorted position gets a
            vertex's own (the row "GCN" of Table 8).
        distortion: What makes distortions: ``"graph"``, or the other rows of Table 8: ``"noise"`` (Gaussian, as large as the
            sample's features), ``"average"`` (of all positions), ``"conv"`` and ``"dilated_conv"`` (learned, 3 by 3, maps
            with two sides only; ``pool`` counts).
        adjacency: ``"dissimilarity"`` (Eq. 6), or the designs of Table 6: (a) ``"learned"``, a matrix of ``max_vertices``
            by as many, (b) ``"similarity"``, (c) ``"identity"``, (d) ``"uniform"``.
        temperature: Divides the vertices' products before the softmax; 0 for the number of channels.
        reduction: Channels over hidden channels of the graph network.
        per_channel: Whether each channel has a mask of its own, instead of one gate per feature vector.
        rescale: Whether kept features are divided by the kept share, as in DropBlock.
        max_vertices: Largest number of vertices; the graph's cost is quadratic in it.
        group_rates: Share of ``p`` in each of the groups of places that it acts in, in the model's order; empty for all of
            it everywhere.
        where: Placements, names or patterns of feature points to act at; empty for the task's default ones.
    """

    name: ClassVar[str] = "dropgraph"
    version: ClassVar[int] = 3
    summary: ClassVar[str] = "dropped features replaced by distortions from a graph of feature vectors"
    implementation: ClassVar[str] = "regathlon_core.regularizers.dropgraph.regularizer:DropGraph"
    stage: ClassVar[Stage] = Stage.FEATURE
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    zero: ClassVar[Mapping[str, Any] | None] = {"p": 0.0}
    acting: ClassVar[Mapping[str, Any]] = {"p": 0.3, "block_size": 2, "alpha": 0.5, "reduction": 1}
    p: float = 0.1
    alpha: float = 0.2
    block_size: int = 7
    schedule: Schedule = "cubic_out"
    pool: Pool = "mean"
    distortion: Distortion = "graph"
    adjacency: Adjacency = "dissimilarity"
    temperature: float = 0.0
    reduction: int = 4
    per_channel: bool = False
    rescale: bool = False
    max_vertices: int = 1024
    group_rates: tuple[float, ...] = ()
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_number(self, "p", 0.0, 1.0)
        check_number(self, "alpha", 0.0, 1.0, above_low=True)
        check_number(self, "temperature", 0.0)
        for field in ("block_size", "reduction", "max_vertices"):
            check_count(self, field)
        for field, choices in (
            ("schedule", Schedule),
            ("pool", Pool),
            ("distortion", Distortion),
            ("adjacency", Adjacency),
        ):
            check_choice(self, field, get_args(choices))
        check_rates(self)
        check_places(self)
        if self.adjacency == "learned" and self.max_vertices > _MOST_LEARNED:
            raise UserError(
                f"dropgraph: adjacency=learned has max_vertices² weights at every place; set max_vertices to the vertices "
                f"of the largest map, at most {_MOST_LEARNED}, not {self.max_vertices}."
            )
