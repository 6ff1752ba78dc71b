"""What GSNR-guided dropout drops, in numbers and pictures."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.evaluation import Evaluation, Findings, Picture
from regathlon_core.features import FeaturePoint, hook_point, select_points
from regathlon_core.ops.drop import drop_units, keep_scale
from regathlon_core.passes import PassRole, run_as
from regathlon_core.regularizers.domains import places_by_domain
from regathlon_core.regularizers.gsnr.functional import sample_gsnr_block_mask
from regathlon_core.task import Batch, Task
from regathlon_dg.gsnr_drops.settings import GSNRDropsSettings
from regathlon_vision import ImageTask
from regathlon_vision.evaluations.drawing import as_bytes, enlarged, heat_colours, laid_out
from regathlon_vision.evaluations.tasks import visible

_SIDE = 96
"""Least side of a map or image in a picture, in pixels."""
_EVERYONE = "all"


@dataclass
class _Place:
    """How often each unit of a place was dropped.

    Attributes:
        dropped: Sum of masks by whose gradients chose them: all samples or a domain's, [C, H, W].
        counts: How many masks each sum is of.
    """

    dropped: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, owner: str, mask: Tensor) -> None:
        """Count a mask [1, C, H, W]."""
        own = mask[0].float().cpu()
        self.dropped[owner] = self.dropped.get(owner, torch.zeros_like(own)) + own
        self.counts[owner] = self.counts.get(owner, 0) + 1

    def share(self, owner: str) -> Tensor:
        """Return how often each unit was dropped, in [0, 1]."""
        return self.dropped[owner] / self.counts[owner]


class GSNRDrops(Evaluation[GSNRDropsSettings]):
    """Drop, in a trained model, what GSNR-guided dropout would drop on training batches, and say what that is.

    The metric ``loss_difference`` is Γ, how far the masks move the loss of a batch (Michalkiewicz et al., ICCV 2023,
    supplement, section 2); ``dropped/<place>`` the share of units that is dropped there; ``half/<place>`` the smallest share
    of channels that holds half of what is dropped: 0.5 where all channels are dropped alike, near 0 where a few are always.
    Pictures show where on the map units are dropped, which channels are, by all samples' gradients and by each domain's
    alone, and the first place's mask over images.
    """

    def run(
        self, model: nn.Module, task: Task, *, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> Findings:
        """Look at a model.

        Raises:
            UserError: The task's features are no maps of images.
        """
        points = self._points(model, task)
        places = {point.name: _Place() for point in points}
        differences = []
        shown: tuple[Batch, Tensor] | None = None
        model.train()
        seed = int(torch.randint(2**31, (), generator=generator))
        for index in task.order(0, seed, self.settings.batch_size)[: self.settings.batches]:
            batch = task.batch("train", index).to(device)
            loss, grads = _gradients(model, task, batch, points)
            masks = {name: self._mask(grad, generator) for name, grad in grads.items()}
            with torch.no_grad(), run_as(model, PassRole.PROBE), _dropping(model, points, masks):
                differences.append(abs(float(task.loss(model, batch)) - loss))
            for name, grad in grads.items():
                places[name].add(_EVERYONE, masks[name])
                for number, own in places_by_domain(batch).items():
                    if len(own) > 1:
                        mask = self._mask(grad[own], generator)
                        places[name].add(task.settings.domains[number], mask)
            shown = shown or (batch, masks[points[0].name][0].float().mean(0))
        model.eval()
        metrics = {"loss_difference": sum(differences) / len(differences)}
        for name, place in places.items():
            share = place.share(_EVERYONE)
            metrics[f"dropped/{name}"] = float(share.mean())
            metrics[f"half/{name}"] = _half(share.mean(dim=(1, 2)))
        assert shown is not None
        return Findings(metrics, self._pictures(task, places, *shown))

    def _points(self, model: nn.Module, task: Task) -> list[FeaturePoint]:
        points = select_points(task.features(model), self.settings.where)
        odd = [point.name for point in points if point.side != "output" or point.layout != "channels_first"]
        if odd or not points or not isinstance(task, ImageTask):
            raise UserError(
                f"gsnr_drops shows maps [B, C, H, W] that modules return; {odd or 'there are none'}."
            )
        return points

    def _mask(self, grads: Tensor, generator: torch.Generator) -> Tensor:
        settings = self.settings
        return sample_gsnr_block_mask(grads, settings.p, 1.0, settings.block_size, generator=generator)

    def _pictures(
        self, task: Task, places: Mapping[str, _Place], batch: Batch, mask: Tensor
    ) -> Sequence[Picture]:
        assert isinstance(task, ImageTask)
        names = ", ".join(places)
        maps = [
            _square(heat_colours(_relative(place.share(_EVERYONE).mean(dim=0)))) for place in places.values()
        ]
        owners = next(iter(places.values())).dropped
        strips = [[_strip(place, owners)] for place in places.values()]
        first = next(iter(places))
        images = visible(task, batch.inputs.cpu())[: self.settings.images]
        over = F.interpolate(_relative(mask.cpu())[None, None], size=images.shape[-2:], mode="nearest")[0, 0]
        heat = heat_colours(over)
        rows = [
            [enlarged(as_bytes(image), _SIDE) for image in images],
            [enlarged(as_bytes(0.5 * image.mean(dim=0) + 0.5 * heat), _SIDE) for image in images],
        ]
        return (
            Picture("places", f"how often each position is dropped (red: most) at {names}", laid_out([maps])),
            Picture(
                "channels",
                f"how often each channel is dropped (red: most), sorted; rows: by the gradients of {', '.join(owners)}; "
                f"blocks: {names}",
                laid_out(strips),
            ),
            Picture(
                "images", f"training images, and the share of channels dropped at {first}", laid_out(rows)
            ),
        )


def _gradients(
    model: nn.Module, task: Task, batch: Batch, points: Sequence[FeaturePoint]
) -> tuple[float, dict[str, Tensor]]:
    """Return the loss of a batch and its gradients with respect to the features at every place."""
    seen: dict[str, Tensor] = {}

    def note(name: str, features: Tensor) -> None:
        seen[name] = features

    with torch.enable_grad(), run_as(model, PassRole.PROBE), _hooked(model, points, note):
        loss = task.loss(model, batch)
    grads = torch.autograd.grad(loss, list(seen.values()))
    return float(loss.detach()), dict(zip(seen, grads, strict=True))


def _dropping(
    model: nn.Module, points: Sequence[FeaturePoint], masks: Mapping[str, Tensor]
) -> contextlib.AbstractContextManager[None]:
    def drop(name: str, features: Tensor) -> Tensor:
        return drop_units(features, masks[name], keep_scale(masks[name]))

    return _hooked(model, points, drop)


@contextlib.contextmanager
def _hooked(
    model: nn.Module, points: Sequence[FeaturePoint], see: Callable[[str, Tensor], Tensor | None]
) -> Iterator[None]:
    """Have a function see, and perhaps replace, the features at every place, called with its name."""

    def hook(name: str, module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        return see(name, output)

    with contextlib.ExitStack() as stack:
        for point in points:
            for handle in hook_point(model, point, functools.partial(hook, point.name)):
                stack.callback(handle.remove)
        yield


def _half(share: Tensor) -> float:
    """Return the smallest share of channels that holds half of what is dropped.

    Example:
        >>> _half(torch.tensor([0.0, 1.0, 0.0, 0.0])), _half(torch.ones(4))
        (0.25, 0.5)
    """
    held = share.sort(descending=True).values.cumsum(0)
    needed = int((held < held[-1] / 2 - 1e-6 * float(held[-1])).sum()) + 1
    return needed / len(share)


def _relative(values: Tensor) -> Tensor:
    return values / values.max().clamp(min=1e-12)


def _square(colours: Tensor) -> Tensor:
    """Return a map of any size as a square picture."""
    resized = F.interpolate(colours[None], size=(_SIDE, _SIDE), mode="nearest")[0]
    return as_bytes(resized)


def _strip(place: _Place, owners: Sequence[str] | Mapping[str, Tensor]) -> Tensor:
    """Return a row of colours for each owner, a column for each channel, sorted by how often all drop it."""
    rows = torch.stack([place.share(owner).mean(dim=(1, 2)) for owner in owners])
    rows = _relative(rows[:, rows[0].argsort(descending=True)])
    return as_bytes(F.interpolate(heat_colours(rows)[None], size=(16 * len(rows), 512), mode="nearest")[0])
