"""Settings of RelDrop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from regathlon_core.errors import UserError
from regathlon_core.regularizers.checks import check_choice, check_count, check_interval, check_number
from regathlon_core.settings import CAPABILITIES, RegularizerSettings, Stage, TaskSettings

Attribution = Literal["lrp", "gradient_x_input", "integrated_gradients"]


@dataclass(frozen=True)
class RelDropSettings(RegularizerSettings):
    """RelDrop: occlude the parts of an input that the model relies on for its true class.

    Attributes:
        mode: ``"block"``: a rectangle (in a sequence, a span) around the most relevant position; ``"position"``: single
            positions (pixels, points, tokens, nodes) by relevance and chance; ``"auto"``: blocks on two-dimensional grids,
            positions elsewhere.
        p: Probability that a sample is occluded, in [0, 1]; None for the paper's (blocks 0.5, pixels 0.3, points 1).
        alpha: How much chance decides against relevance, in [0, 1]: for blocks the probability of a random centre; None
            for the paper's (blocks 0, pixels 0.3, points 0.5).
        beta: How easily a position is dropped, in [0, 1]: where alpha·U(0, 1) + (1-alpha)·relevance reaches 1-beta; None
            for the paper's (pixels 0.5, points 0.15).
        area: Smallest and largest share of a block.
        aspect: Smallest and largest height over width of a block, uniform in the logarithm.
        centers: A block's centre is one of so many most relevant positions, at random.
        blocks: Blocks in an input, which share the area; each is around what the others leave most relevant.
        alpha_end: Where ``alpha`` arrives at the end of the budget, linearly; None for a constant. Needs ``alpha``.
        every: Relevance is asked for in every so many steps; in the others chance alone decides (alpha = 1).
        average: Decay of a moving average of the weights, in [0, 1), whose relevance is used; 0 for the model's own.
        attribution: ``"lrp"``, ``"gradient_x_input"`` or ``"integrated_gradients"`` (needs captum).
        composite: Rules of relevance propagation (``regathlon_core.attribution.COMPOSITES``).
        integration_steps: Points of the integral of Integrated Gradients.
    """

    name: ClassVar[str] = "reldrop"
    version: ClassVar[int] = 3
    summary: ClassVar[str] = "occludes what relevance propagation says the model relies on"
    implementation: ClassVar[str] = "regathlon_core.regularizers.reldrop.regularizer:RelDrop"
    stage: ClassVar[Stage] = Stage.INPUT
    needs: ClassVar[frozenset[str]] = frozenset({"occlude"})
    zero: ClassVar[Mapping[str, Any] | None] = {"p": 0.0}
    acting: ClassVar[Mapping[str, Any]] = {"p": 1.0}
    mode: Literal["auto", "block", "position"] = "auto"
    p: float | None = None
    alpha: float | None = None
    beta: float | None = None
    area: tuple[float, float] = (0.02, 0.4)
    aspect: tuple[float, float] = (0.3, 1 / 0.3)
    centers: int = 1
    blocks: int = 1
    alpha_end: float | None = None
    every: int = 1
    average: float = 0.0
    attribution: Attribution = "lrp"
    composite: str = "epsilon_plus_flat"
    integration_steps: int = 8

    def refusal(self, task: TaskSettings) -> str | None:
        """Return why it cannot run on this task, or None where it can."""
        if not task.provides & {"sample_labels", "box_labels"}:
            return (
                f"{self.name} needs {CAPABILITIES['sample_labels']} or box, which {task.name} does not offer"
            )
        return super().refusal(task)

    def __post_init__(self) -> None:
        for field in ("p", "alpha", "beta"):
            if getattr(self, field) is not None:
                check_number(self, field, 0.0, 1.0)
        check_interval(self, "area", 0.0, 1.0)
        check_interval(self, "aspect", 0.0, float("inf"))
        for field in ("centers", "blocks", "every", "integration_steps"):
            check_count(self, field)
        check_number(self, "average", 0.0, 1.0)
        if self.average == 1:
            raise UserError("reldrop: average is a decay below 1; at 1 the average would never move.")
        check_choice(self, "mode", ("auto", "block", "position"))
        check_choice(self, "attribution", get_args(Attribution))
        if self.alpha_end is not None:
            check_number(self, "alpha_end", 0.0, 1.0)
            if self.alpha is None:
                raise UserError(
                    "reldrop: alpha_end needs an alpha to begin with, such as alpha=1.0, alpha_end=0.0."
                )
