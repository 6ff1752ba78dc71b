"""The protocol of a regularizer, and how several act together."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from regathlon_core.errors import UserError
from regathlon_core.features import (
    FeaturePoint,
    Grouping,
    hook_point,
    on_channels_first,
    points_by_name,
    select_or_warn,
    select_points,
)
from regathlon_core.passes import PassRole, current_role
from regathlon_core.settings import RegularizerSettings, Stage, check_composition

if TYPE_CHECKING:
    from regathlon_core.task import Batch, Task

S = TypeVar("S", bound=RegularizerSettings)


class Regularizer(nn.Module, Generic[S]):
    """Anything that acts on training only. The engine knows no more of it than this protocol.

    A training step, as the engine runs it::

        regularizer.attach(model, task)                    # once, before the optimizer is made
        for each step:
            batch = task.batch("train", ...)
            optimizer.zero_grad()
            with autocast:
                batch = regularizer.transform(model, batch, task, generator)
                for loss in regularizer.losses(model, batch, task, generator):
                    loss.backward()                        # at once, so that n terms cost the memory of one
            optimizer.step()
            regularizer.after_step(progress)               # share of the budget that is spent, in (0, 1]
        regularizer.evaluated(model)                       # what metrics are read from, every few epochs
        regularizer.detach()                               # the plain model again

    Rules that the conformance kit (``regathlon_core.testing``) checks:

    * In ``eval()`` the model computes what the plain model computes, and a feature layer returns its argument itself.
    * All state that a resume needs lies in ``state_dict()``; all randomness comes from ``generator``.
    * Parameters of the regularizer are trained by the step's optimizer; buffers are not.
    * The model keeps its modules and its state-dict keys, attached or not.
    * Only passes with the role ``full`` move the model's buffers (``regathlon_core.passes``).

    A regularizer is built from keywords, ``DropBlock(p=0.1)``, or from its settings, ``DropBlock(DropBlockSettings())``.

    Args:
        settings: The settings; or leave it out and give them as keywords.

    Raises:
        TypeError: An unknown keyword.
    """

    Settings: ClassVar[type[RegularizerSettings]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "Settings" in cls.__dict__:  # so that help() and editors show the settings as keywords
            signature = inspect.signature(cls.Settings)
            cls.__signature__ = signature.replace(return_annotation=inspect.Signature.empty)  # type: ignore[attr-defined]

    def __init__(self, settings: S | None = None, /, **keywords: Any) -> None:
        super().__init__()
        if settings is not None and keywords:
            raise TypeError("Give either a settings object or keywords, not both.")
        self.settings: S = settings if settings is not None else self.Settings(**keywords)  # type: ignore[assignment]

    def attach(self, model: nn.Module, task: Task | None = None) -> None:
        """Get ready to train a model: insert feature-level layers, register parameters. The default does nothing.

        Args:
            model: The model, on its device.
            task: What it will be trained on; None for use in code of one's own.
        """

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Return the batch that the step is to train on. The default returns it as it is."""
        return batch

    def losses(
        self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the step's scalar loss terms one at a time; each is backpropagated before the next is asked for.

        Args:
            model: The model in training mode.
            batch: What ``transform`` returned.
            task: Gives loss, views and feature points their meaning.
            generator: The only source of randomness, on the model's device.
        """
        yield task.loss(model, batch)

    def after_step(self, progress: float) -> None:
        """Move schedules and averages on, after the optimizer's step.

        Args:
            progress: Share of the budget that is done, in (0, 1].
        """

    def evaluated(self, model: nn.Module) -> nn.Module:
        """Return the model that metrics are read from and that is kept: the default is the model itself.

        For weight averages and teachers; a model of the same structure, which the caller does not train.
        """
        return model

    def diagnostics(self) -> Mapping[str, float]:
        """Return numbers to record with every epoch (learned rates, ...); the default has none."""
        return {}

    def detach(self) -> None:
        """Give the plain model back. The default has nothing to undo."""

    def extra_repr(self) -> str:
        """Show the settings that differ from their defaults."""
        return str(self.settings)


class FeatureRegularizer(Regularizer[S], abc.ABC):
    """A regularizer that acts on feature maps: a layer of one's own model, or attached to an unmodified one.

    As a layer, ``forward`` takes [B, C, *spatial]. Attached, it acts on the outputs of the submodules that the task's
    ``features`` name (or, without a task, those that the setting ``where`` names), through forward hooks, so that the
    model's modules and state-dict keys stay what they are. In ``eval()`` and in probe and attribution passes it is
    the identity.

    Subclasses implement ``act`` and may prepare parameters per place in ``prepare``. ``strength`` is the share of the
    full effect, between 0 and 1, for schedules: it stays 1 in a layer of one's own.
    """

    strength: Tensor
    present: Tensor | None
    """While ``act`` runs: which positions of its argument are there, bool [B, N], or None for all. Graphs of different
    sizes are filled up with zeros to the largest."""

    def __init__(self, settings: S | None = None, /, **keywords: Any) -> None:
        super().__init__(settings, **keywords)
        self.register_buffer("strength", torch.ones((), dtype=torch.float64))
        self._rates: dict[str, float] = {}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._generator: torch.Generator | None = None
        self._graph_of_node: Tensor | None = None
        self.present = None

    @abc.abstractmethod
    def act(self, x: Tensor, generator: torch.Generator | None, place: str) -> Tensor:
        """Return the regularized features.

        Args:
            x: [B, C, *spatial], any floating dtype.
            generator: Source of randomness on the device of ``x``; None for torch's global one.
            place: Name of the feature point; empty in a layer of one's own.
        """

    def usual(self, points: Sequence[FeaturePoint]) -> Sequence[FeaturePoint]:
        """Return which of a task's default places to act at where ``where`` names none; the default: all."""
        return points

    def prepare(self, points: Sequence[FeaturePoint]) -> None:
        """Register parameters or buffers per place; called by ``attach``. The default has none."""

    def grouping(self) -> Grouping:
        """Return how much of a batch of graphs ``act`` has to see at once (``on_channels_first``); the default: all of it."""
        return "batch"

    def schedule(self, progress: float) -> float:
        """Return the share of the full strength at a point of the budget; the default is constant."""
        return 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Regularize features [B, C, *spatial] in training mode; return ``x`` itself in ``eval()``."""
        return self._regularize(x, "") if self.training else x

    def rate(self, place: str) -> float:
        """Return the share of the full strength at a place, which the setting ``group_rates`` may make differ."""
        return self._rates.get(place, 1.0)

    def attach(
        self, model: nn.Module, task: Task | None = None, *, points: Sequence[FeaturePoint] | None = None
    ) -> None:
        """Hook the places to act at.

        Args:
            model: The model, on its device.
            task: What it will be trained on; None for use in code of one's own.
            points: The places that ``where`` selects from: by default those that the task names, or without a task all
                submodules. ``regathlon_vision.feature_points(model)`` gives those of many models.

        Raises:
            UserError: It is attached already, or no place matches (it would have no effect). Without a task, places
                that match nothing are warned of.
        """
        if self._hooks:
            raise UserError(f"{self.settings.name} is attached to a model already; detach() it first.")
        chosen = self._choose_points(model, task, points)
        self._rates = self._rates_of_groups(chosen)
        self.prepare(chosen)
        self.strength.fill_(self.schedule(0.0))
        if task is not None and any(point.layout == "nodes" for point in chosen):
            self._hooks.append(model.register_forward_pre_hook(self._remember_graphs(task)))
        for point in chosen:
            self._hooks += hook_point(model, point, self._hook(point))

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Remember the step's generator for the passes to come; the batch stays as it is."""
        self._generator = generator
        return batch

    def after_step(self, progress: float) -> None:
        """Move the schedule on."""
        self.strength.fill_(self.schedule(progress))

    def detach(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._generator = self._graph_of_node = None

    def _choose_points(
        self, model: nn.Module, task: Task | None, points: Sequence[FeaturePoint] | None
    ) -> list[FeaturePoint]:
        where = getattr(self.settings, "where", ())
        if task is None:
            return points_by_name(model, where) if points is None else select_or_warn(points, where)
        chosen = select_points(task.features(model) if points is None else points, where)
        if not where and chosen:
            chosen = list(self.usual(chosen))
        if not chosen:
            raise UserError(
                f"{self.settings.name} would act nowhere: the task names no default feature points."
            )
        return chosen

    def _rates_of_groups(self, points: Sequence[FeaturePoint]) -> dict[str, float]:
        rates: Sequence[float] = getattr(self.settings, "group_rates", ())
        groups = list(dict.fromkeys(point.group for point in points))
        if not rates:
            return {}
        if len(rates) != len(groups):
            names = ", ".join(group or "(no name)" for group in groups)
            raise UserError(
                f"{self.settings.name}: group_rates needs one rate for each of the groups it acts in ({names}), "
                f"not {len(rates)}."
            )
        by_group = dict(zip(groups, rates, strict=True))
        return {point.name: by_group[point.group] for point in points}

    def _hook(self, point: FeaturePoint) -> Callable[[nn.Module, Any, Tensor], Tensor | None]:
        def regularize(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
            return self._at(point, output) if module.training else None

        return regularize

    def _at(self, point: FeaturePoint, features: Tensor) -> Tensor:
        return on_channels_first(
            features,
            point.layout,
            lambda x, present: self._regularize(x, point.name, present),
            self._graph_of_node,
            self.grouping(),
        )

    def _remember_graphs(self, task: Task) -> Callable[[nn.Module, Any], None]:
        def remember(model: nn.Module, inputs: Any) -> None:
            self._graph_of_node = task.graph_of_node(inputs[0])

        return remember

    def _regularize(self, x: Tensor, place: str, present: Tensor | None = None) -> Tensor:
        if current_role() in (PassRole.PROBE, PassRole.ATTRIBUTION):
            return x
        self.present = present
        try:
            return self.act(x, self._generator, place)
        finally:
            self.present = None


class Compose(Regularizer[RegularizerSettings]):
    """Several regularizers that act in one step, each at its own stage.

    The order in which they are given does not matter: inputs are changed first, then mixed, then labels; feature
    layers act inside the passes, and at most one part makes the loss terms.

    Args:
        parts: The regularizers.

    Raises:
        UserError: Two of them cannot act together; the message names both.

    Example:
        >>> from regathlon_core import Compose, CutMix, DropBlock
        >>> [part.settings.name for part in Compose([DropBlock(), CutMix()]).parts]
        ['cutmix', 'dropblock']
    """

    def __init__(self, parts: Sequence[Regularizer[Any]]) -> None:
        nn.Module.__init__(self)
        order = check_composition([part.settings for part in parts])
        by_name = {part.settings.name: part for part in parts}
        self.parts = nn.ModuleList(by_name[settings.name] for settings in order)

    def attach(self, model: nn.Module, task: Task | None = None) -> None:
        """Attach every part; where one fails, the model is left plain."""
        try:
            for part in self._all():
                part.attach(model, task)
        except BaseException:
            self.detach()
            raise

    def transform(self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator) -> Batch:
        """Pass the batch through every part."""
        for part in self._all():
            batch = part.transform(model, batch, task, generator)
        return batch

    def losses(
        self, model: nn.Module, batch: Batch, task: Task, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the loss terms of the part that makes them, or the task's own."""
        makers = [part for part in self._all() if part.settings.stage is Stage.LOSS]
        if makers:
            yield from makers[0].losses(model, batch, task, generator)
        else:
            yield task.loss(model, batch)

    def after_step(self, progress: float) -> None:
        """Move every part on."""
        for part in self._all():
            part.after_step(progress)

    def evaluated(self, model: nn.Module) -> nn.Module:
        """Return what the parts make of the model, one after another."""
        for part in self._all():
            model = part.evaluated(model)
        return model

    def diagnostics(self) -> Mapping[str, float]:
        """Return the numbers of all parts, each under its part's name."""
        return {
            f"{part.settings.name}/{name}": value
            for part in self._all()
            for name, value in part.diagnostics().items()
        }

    def detach(self) -> None:
        """Detach every part."""
        for part in self._all():
            part.detach()

    def extra_repr(self) -> str:
        """Show the parts, as a suite would write them."""
        return "+".join(str(part.settings) for part in self._all())

    def _all(self) -> list[Regularizer[Any]]:
        return list(self.parts)  # type: ignore[arg-type]


def build_regularizer(parts: Sequence[RegularizerSettings]) -> Regularizer[Any]:
    """Return the regularizer that settings describe: the one, or the composition of several.

    Raises:
        UserError: They cannot act together, or there are none.
    """
    if not parts:
        raise UserError("A regularizer needs a name; write 'none' to train without one.")
    built = [part.build() for part in parts]
    return built[0] if len(built) == 1 else Compose(built)
