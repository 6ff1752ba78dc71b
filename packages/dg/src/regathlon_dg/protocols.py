"""The published ways of training and testing on several domains: declarations only, which import no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from regathlon_core.recipe import Budget, Recipe


@dataclass(frozen=True)
class Protocol:
    """How a data set of several domains is split, augmented and trained on.

    Attributes:
        recipe: Optimizer, schedule and budget.
        official: Whether the data set's own parts are used where it has any.
        held_back: Share of every domain that is drawn as its validation part where it has no parts of its own.
        whole_target: Whether all of the held-out domain is tested on, or its training part only.
        crop: Smallest and largest share of an image's area that random crops show; None for whole images.
        jitter: Largest change of brightness, contrast, saturation and hue.
        gray: Probability that an image loses its colours.
        flip: Whether images are mirrored at random.
        twins: Whether every training image comes with its mirror image in the same batch.
    """

    recipe: Recipe
    official: bool = True
    held_back: float = 0.1
    whole_target: bool = True
    crop: tuple[float, float] | None = None
    jitter: float = 0.0
    gray: float = 0.0
    flip: bool = False
    twins: bool = False


_DOMAINBED = Recipe(
    optimizer="adam",
    lr=5e-5,
    weight_decay=0.0,
    schedule="constant",
    batch_size=96,
    budget=Budget(steps=5000),
)

PHOTOS: Mapping[str, Protocol] = MappingProxyType(
    {
        "rsc": Protocol(
            Recipe(
                lr=0.01,
                nesterov=False,
                weight_decay=5e-4,
                schedule="step",
                milestones=(0.8,),
                batch_size=128,
                budget=Budget(epochs=30),
            ),
            crop=(0.8, 1.0),
            jitter=0.4,
            gray=0.1,
            flip=True,
            twins=True,
        ),
        "domainbed": Protocol(
            _DOMAINBED,
            official=False,
            held_back=0.2,
            whole_target=False,
            crop=(0.7, 1.0),
            jitter=0.3,
            gray=0.1,
            flip=True,
        ),
    }
)
"""Of photographs, paintings and drawings. ``rsc``: the code of Representation Self-Challenging (Huang et al. 2020), in which
the GSNR paper was run; 64 images a step and their mirror images. ``domainbed``: Gulrajani & Lopez-Paz (2021); 32 images
of each of three domains a step."""

DIGITS: Mapping[str, Protocol] = MappingProxyType(
    {
        "dassl": Protocol(
            Recipe(
                lr=0.05,
                nesterov=False,
                weight_decay=5e-4,
                schedule="step",
                milestones=(0.4, 0.8),
                batch_size=128,
                budget=Budget(epochs=50),
            )
        ),
        "domainbed": Protocol(_DOMAINBED, official=False, held_back=0.2, whole_target=False),
    }
)
"""Of digits, which are neither cropped nor mirrored. ``dassl``: Zhou et al. (2020), Digits-DG: 50 epochs, the rate divided by
10 after every 20."""
