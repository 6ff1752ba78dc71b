"""The domain-generalization tasks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from regathlon_core.errors import UserError, unknown
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.settings import ModelSettings, TaskSettings
from regathlon_vision.models.settings import ResNet8Settings

if TYPE_CHECKING:
    from regathlon_core.task import Task


@dataclass(frozen=True)
class DomainSettings(TaskSettings):
    """What tasks of several domains, one of them held out, offer.

    Attributes:
        test: The domain that is tested on and never trained on; in a suite None stands for each of them in
            turn.
    """

    domains: ClassVar[tuple[str, ...]]
    """Names of the domains, in the order of ``Batch.domain``."""
    provides: ClassVar[frozenset[str]] = frozenset(
        {
            "class_labels",
            "sample_labels",
            "grid_inputs",
            "features",
            "residual",
            "views",
            "soft_loss",
            "occlude",
            "domains",
        }
    )
    views: ClassVar[tuple[str, ...]] = ("scale", "rotation")
    metric: ClassVar[str] = "accuracy"
    test: str | None = None

    def __post_init__(self) -> None:
        if self.test is not None and self.test not in self.domains:
            raise unknown(f"domain of {self.name}", str(self.test), self.domains)

    def grid(self) -> tuple[TaskSettings, ...]:
        """Return one task for each domain to hold out, or this one where it names the domain."""
        if self.test is not None:
            return (self,)
        return tuple(dataclasses.replace(self, test=domain) for domain in self.domains)

    @property
    def sources(self) -> tuple[str, ...]:
        """The domains that are trained on.

        Example:
            >>> from regathlon_dg import DigitDomainsSettings
            >>> DigitDomainsSettings(test="poster").sources
            ('paper', 'chalkboard', 'camera')
        """
        return tuple(domain for domain in self.domains if domain != self.test)

    def build(self, data: Path | None = None) -> Task:
        """Return the task with its data loaded.

        Raises:
            UserError: No domain to hold out is named, or the data is not there.
        """
        if self.test is None:
            choices = ", ".join(f"{self.name}(test={domain})" for domain in self.domains)
            raise UserError(f"{self.name} needs a domain to test on: one of {choices}.")
        return super().build(data)


@dataclass(frozen=True)
class DigitDomainsSettings(DomainSettings):
    """Handwritten digits in four looks: ink on paper, a chalkboard, posters, a camera."""

    name: ClassVar[str] = "dg/digits"
    summary: ClassVar[str] = "handwritten digits in four looks, one of them held out"
    implementation: ClassVar[str] = "regathlon_dg.digits:DigitDomainsTask"
    dataset: ClassVar[str] = "digit-domains"
    domains: ClassVar[tuple[str, ...]] = ("paper", "chalkboard", "poster", "camera")
    models: ClassVar[tuple[type[ModelSettings], ...]] = (ResNet8Settings,)
    recipe: ClassVar[Recipe] = Recipe(lr=0.1, weight_decay=5e-4, batch_size=24, budget=Budget(epochs=20))
