"""The domain-generalization tasks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from regathlon_core.errors import UserError, unknown
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.settings import ModelSettings, TaskSettings
from regathlon_vision.models.settings import ResNet8Settings

if TYPE_CHECKING:
    from regathlon_core.task import Task


Validation = Literal["training_domains", "leave_one_out", "oracle"]


@dataclass(frozen=True)
class DomainSettings(TaskSettings):
    """What tasks of several domains, one of them held out, offer.

    Attributes:
        test: The domain that is tested on and never trained on; in a suite None stands for each of them in
            turn.
        validation: Where ``val`` comes from (Gulrajani & Lopez-Paz 2021, arXiv 2007.01434, section 3):
            ``"training_domains"``, samples of them that are not trained on; ``"leave_one_out"``, another domain that is
            not trained on; ``"oracle"``, samples of the tested domain, which are then not tested on.
        val: The domain of ``"leave_one_out"``; in a suite None stands for each of the others in turn.
        only: The domains to use; empty for all of them.
        balanced: Whether the source domains take turns in a batch, or all samples are shuffled together.
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
    validation: Validation = "training_domains"
    val: str | None = None
    only: tuple[str, ...] = ()
    balanced: bool = True

    def __post_init__(self) -> None:
        for name in self.only:
            if name not in self.domains:
                raise unknown(f"domain of {self.name}", str(name), self.domains)
        for chosen in (self.test, self.val):
            if chosen is not None and chosen not in self.used:
                raise unknown(f"domain of {self.name}", str(chosen), self.used)
        if self.validation not in get_args(Validation):
            raise unknown("validation", str(self.validation), get_args(Validation))
        if self.val is not None and (self.validation != "leave_one_out" or self.val == self.test):
            raise UserError(
                f"{self.name}: val={self.val} needs validation=leave_one_out and another domain to test on."
            )
        least = 3 if self.validation == "leave_one_out" else 2
        if len(self.used) < least:
            raise UserError(
                f"{self.name} needs at least {least} domains with validation={self.validation}, not only "
                f"{', '.join(self.used)}."
            )

    @property
    def used(self) -> tuple[str, ...]:
        """The domains that are used, in their order."""
        return tuple(name for name in self.domains if not self.only or name in self.only)

    def grid(self) -> tuple[TaskSettings, ...]:
        """Return one task for each domain to hold out (and each to validate on), or this one where it names them."""
        if self.test is None:
            return tuple(one for name in self.used for one in dataclasses.replace(self, test=name).grid())
        if self.validation != "leave_one_out" or self.val is not None:
            return (self,)
        return tuple(dataclasses.replace(self, val=name) for name in self.used if name != self.test)

    @property
    def sources(self) -> tuple[str, ...]:
        """The domains that are trained on.

        Example:
            >>> from regathlon_dg import DigitDomainsSettings
            >>> DigitDomainsSettings(test="poster").sources
            ('paper', 'chalkboard', 'camera')
        """
        return tuple(name for name in self.used if name not in (self.test, self.val))

    def build(self, data: Path | None = None) -> Task:
        """Return the task with its data loaded.

        Raises:
            UserError: No domain to hold out, or to validate on, is named, or the data is not there.
        """
        if self.test is None:
            choices = ", ".join(f"{self.name}(test={domain})" for domain in self.used)
            raise UserError(f"{self.name} needs a domain to test on: one of {choices}.")
        if self.validation == "leave_one_out" and self.val is None:
            raise UserError(f"{self.name} needs a domain to validate on: val={self.sources[0]}, for one.")
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
