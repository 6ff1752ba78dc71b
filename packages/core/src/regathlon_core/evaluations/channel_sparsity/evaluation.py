"""The sparsity of channels' relevance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regathlon_core.attribution import lrp_of_layers
from regathlon_core.errors import UserError
from regathlon_core.evaluation import Evaluation, Findings
from regathlon_core.evaluations.channel_sparsity.settings import ChannelSparsitySettings
from regathlon_core.evaluations.samples import spread_test_batches
from regathlon_core.task import Task


class ChannelSparsity(Evaluation[ChannelSparsitySettings]):
    """Two numbers for every layer: is relevance on few channels, and are they the same ones in every sample?

    The channels' shares of a sample's relevance are the sizes of its sums over positions. ``gini/<layer>`` is the Gini
    coefficient of the shares of one sample, averaged over samples: 0 where all channels matter alike, near 1 where one
    does. ``gini_of_mean/<layer>`` is that of the shares' averages over samples.
    """

    def run(
        self, model: nn.Module, task: Task, *, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Findings:
        """Measure a model on the task's test samples.

        Raises:
            UserError: There is no such layer, or no place to look at.
        """
        layers = self.settings.layers or tuple(
            dict.fromkeys(
                point.module
                for point in task.features(model)
                if point.default and point.layout == "channels_first" and point.module
            )
        )
        if not layers:
            raise UserError(f"{task.settings.name}: the model names no layers; give layers=[...].")
        shares: dict[str, list[Tensor]] = {name: [] for name in layers}
        for batch in spread_test_batches(task, self.settings.samples, device):
            scores, classes = task.explained(batch, generator)
            relevances = lrp_of_layers(
                model,
                batch.inputs,
                classes,
                layers,
                self.settings.composite,
                wrt=task.attributed,
                forward=scores,
            )
            for name, relevance in relevances.items():
                sizes = relevance.flatten(2).sum(2).abs() if relevance.ndim > 2 else relevance.abs()
                total = sizes.sum(1, keepdim=True).double()
                shares[name].append(torch.where(total > 0, sizes / total, 1 / sizes.shape[1]).cpu())
        metrics = {}
        for name, parts in shares.items():
            together = torch.cat(parts)
            metrics[f"gini/{name}"] = float(gini(together).mean())
            metrics[f"gini_of_mean/{name}"] = float(gini(together.mean(0)))
        return Findings(metrics)


def gini(shares: Tensor) -> Tensor:
    """Return the Gini coefficient of numbers of at least 0 along the last dimension: float64, in [0, 1).

    Example:
        >>> gini(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]])).tolist()
        [0.0, 0.75]
    """
    ordered = shares.double().sort(dim=-1).values
    count = ordered.shape[-1]
    weight = 2 * torch.arange(1, count + 1, dtype=torch.float64, device=shares.device) - count - 1
    return (ordered * weight).sum(-1) / (count * ordered.sum(-1).clamp(min=torch.finfo(torch.float64).tiny))
