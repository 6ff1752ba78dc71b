"""GradAug with labelled and unlabelled samples."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from regathlon_core.passes import PassRole, run_as
from regathlon_core.regularizers.gradaug.regularizer import GradAug
from regathlon_core.regularizers.gradaug_semi.settings import GradAugSemiSettings
from regathlon_core.rng import on_cpu
from regathlon_core.task import Batch, Task


class GradAugSemi(GradAug):
    """GradAug's step, then sub-networks that learn the full network's outputs on unlabelled samples.

    The full network looks at unlabelled samples without gradient; its outputs are soft labels of ``n`` sub-networks, each
    of a random width on a view of its own, as in GradAug. All terms have weight 1.

    Source: GradAug (arXiv:2006.07989), Table 10, "GradAug-semi", whose details lie in a supplement that is not public.
    What is ours: (1) the full network has no loss on unlabelled samples; (2) its pass over them normalises by their own
    statistics and stores none; (3) as many unlabelled as labelled samples in a step.

    Example:
        >>> from regathlon_core import Budget, GradAugSemi, Recipe, fit
        >>> from regathlon_core.testing import ToyImages
        >>> task = ToyImages()
        >>> result = fit(task.model(seed=0), task, GradAugSemi(n=2), Recipe(budget=Budget(steps=2)))
        >>> result.cost.steps
        2
    """

    Settings = GradAugSemiSettings
    settings: GradAugSemiSettings

    def losses(
        self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield GradAug's terms, then each sub-network's distance to the full network's outputs on unlabelled samples."""
        yield from super().losses(model, batch, task, generator)
        count = round(self.settings.unlabelled * len(batch.targets))
        if not count:
            return
        inputs = task.unlabelled(count, on_cpu(generator)).to(batch.targets.device)
        # Nobody reads these labels; views carry them along.
        others = Batch(inputs, batch.targets.new_zeros(count))
        with torch.no_grad(), run_as(model, PassRole.SUB):
            reference = task.predict(model, others)
        yield from self._lessons(model, others, reference, task, generator, taught_by="soft")
