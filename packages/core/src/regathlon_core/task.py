"""The protocol a task offers: batches to the engine; to regularizers, what view, occlude and feature mean."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from regathlon_core.errors import UserError, unknown
from regathlon_core.features import FeaturePoint
from regathlon_core.metrics import Metrics
from regathlon_core.rng import SampleDraw, stream
from regathlon_core.settings import TaskSettings

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Mixed:
    """The second half of labels that were mixed: ``weight`` of the own label, the rest of another sample's.

    Attributes:
        targets: Labels of the partner samples, like ``Batch.targets``.
        weight: Share of the own label per sample, float32 in [0, 1], [B].
    """

    targets: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Batch:
    """What one step sees. Regularizers make changed copies with ``replace``; nothing is changed in place.

    Attributes:
        inputs: What the model is called with: a tensor, or an object with a ``to`` method.
        targets: Labels (int64 [B] for classification, [B, *spatial] for dense tasks, a list of mappings of tensors for
            detection).
        index: Sample indices within their split, int64 [B], or None.
        mixed: Set where labels were mixed.
        smoothing: Label smoothing in [0, 1).
        domain: Domain of each sample, int64 [B], where the task has domains.
    """

    inputs: Any
    targets: Any
    index: Tensor | None = None
    mixed: Mixed | None = None
    smoothing: float = 0.0
    domain: Tensor | None = None

    def replace(self, **changes: Any) -> Batch:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device."""

        def move(value: Any) -> Any:
            return value.to(device, non_blocking=True) if hasattr(value, "to") else value

        return self.replace(**{name: tree_map(move, value) for name, value in vars(self).items()})


@dataclass(frozen=True)
class View:
    """A transformed batch, and where its positions come from.

    Attributes:
        batch: The transformed samples, with labels to match.
        align: Takes the model's outputs for the original batch into the view's frame, so that the two can be
            compared: the identity where outputs are per sample, the same rescale or rotation where they are
            per pixel.
    """

    batch: Batch
    align: Callable[[Any], Any] = lambda outputs: outputs


class Task(abc.ABC):
    """One learning problem: data, loss, metrics, and what its modality means by view, occlude and feature.

    A subclass implements the abstract methods and those that its settings' ``provides`` promise; the
    conformance kit checks that they agree. Samples are named by their index within a split, so that an
    epoch's order and a sample's augmentation are functions of the seed alone.

    Args:
        settings: The declaration that built it.
    """

    ignore_index: ClassVar[int] = -100
    """Label of positions that no loss or metric counts."""

    def __init__(self, settings: TaskSettings) -> None:
        self.settings = settings

    # ---- asked by the engine -------------------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""

    @property
    @abc.abstractmethod
    def in_channels(self) -> int:
        """Channels or features of an input, for building a model."""

    @abc.abstractmethod
    def size(self, split: Split) -> int:
        """Return the number of samples in a split; 0 where the task has no such split."""

    @abc.abstractmethod
    def batch(self, split: Split, index: Tensor, draw: SampleDraw | None = None) -> Batch:
        """Return the samples with these indices.

        Args:
            split: Which part of the data.
            index: Sample indices, int64 [B].
            draw: Source of augmentation; None for none (evaluation).
        """

    def order(self, epoch: int, seed: int, batch_size: int) -> list[Tensor]:
        """Return an epoch's training batches as index tensors, a pure function of (epoch, seed).

        The default shuffles and keeps a last batch only where it is at least half full: batch statistics of a
        few leftover samples are noise.
        """
        size = self.size("train")
        indices = torch.randperm(size, generator=stream(seed, "order", epoch))
        batches = list(torch.split(indices, batch_size))
        if len(batches) > 1 and len(batches[-1]) * 2 < batch_size:
            batches.pop()
        return batches

    def evaluation_order(self, split: Split, batch_size: int) -> list[Tensor]:
        """Return a split's batches for evaluation: every sample once, in order."""
        size = self.size(split)
        return list(torch.split(torch.arange(size), batch_size)) if size else []

    def predict(self, model: nn.Module, batch: Batch) -> Any:
        """Return the model's outputs for a batch (logits)."""
        return model(batch.inputs)

    def criterion(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the scalar training loss of outputs; the default is a cross-entropy over dimension 1."""
        return class_loss(outputs, batch, ignore_index=self.ignore_index)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the scalar training loss of a model on a batch."""
        return self.criterion(self.predict(model, batch), batch)

    @abc.abstractmethod
    def metrics(self) -> Metrics:
        """Return a fresh accumulator of the task's metrics."""

    def evaluate(
        self, model: nn.Module, split: Split, *, batch_size: int = 256, device: torch.device | str = "cpu"
    ) -> Mapping[str, float]:
        """Return the metrics of a model on a split, in evaluation mode; its flags are left as they were.

        Raises:
            UserError: The task has no such split.
        """
        if not self.size(split):
            raise UserError(f"{self.settings.name} has no {split} samples to evaluate on.")
        metrics = self.metrics()
        with evaluating(model):
            for index in self.evaluation_order(split, batch_size):
                batch = self.batch(split, index).to(device)
                metrics.update(self.predict(model, batch), batch)
        return metrics.compute()

    def evaluate_splits(
        self, model: nn.Module, splits: Sequence[Split], *, device: torch.device | str = "cpu"
    ) -> Mapping[Split, Mapping[str, float]]:
        """Return the metrics of a model on several splits; those that the task does not have are left out.

        The default evaluates one after another; a task whose splits share their inputs may do with one pass.
        """
        return {split: self.evaluate(model, split, device=device) for split in splits if self.size(split)}

    # ---- asked by regularizers -----------------------------------------------------------------------------

    def features(self, model: nn.Module) -> Sequence[FeaturePoint]:
        """Return the places where feature-level regularizers may act ("features")."""
        raise self._not_offered("features")

    def graph_of_node(self, inputs: Any) -> Tensor | None:
        """Return which graph each node of the inputs belongs to, int64 [N] rising from 0; None for one."""
        return None

    def views(self, batch: Batch, generator: torch.Generator, kinds: Sequence[str] = ()) -> Iterator[View]:
        """Yield label-preserving random views of a batch, one after another, without end ("views").

        Args:
            batch: Samples as the full network saw them, mixed labels included.
            generator: Source of randomness.
            kinds: Which transformations to apply, in this order, of ``settings.views``; empty for the first
                of them.

        Raises:
            UserError: The task offers no such kind.
        """
        raise self._not_offered("views")

    def view_kinds(self, kinds: Sequence[str]) -> tuple[str, ...]:
        """Return the kinds of view to make, checked; for implementations of ``views``."""
        for kind in kinds:
            if kind not in self.settings.views:
                raise unknown("kind of view", kind, self.settings.views)
        return tuple(kinds) or self.settings.views[:1]

    def occlude(self, batch: Batch, where: Tensor) -> Batch:
        """Return the batch with parts of its inputs replaced by the modality's absent value ("occlude").

        Args:
            batch: Samples.
            where: True at positions to occlude: bool [B, *positions].
        """
        raise self._not_offered("occlude")

    def attributed(self, inputs: Any) -> Tensor:
        """Return the tensor of the inputs that ``occlude`` changes: its relevance says where ("occlude").

        [B, C, *positions], or [N, C] for nodes; dimension 1 is summed over. The default is the inputs
        themselves.
        """
        tensor: Tensor = inputs
        return tensor

    def explained(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[Callable[[nn.Module, Any], Tensor], Tensor]:
        """Return the class scores whose reasons say what to occlude, and the true class of each sample ("occlude").

        The default is the model's logits for a batch with one label per sample.

        Args:
            batch: Samples.
            generator: Source of randomness, where there is a choice of what to explain.

        Returns:
            What gets logits [B, K] from a model and inputs, and a class per sample, int64 [B].
        """
        return lambda model, inputs: self.predict(model, batch.replace(inputs=inputs)), batch.targets

    def soft_loss(self, outputs: Any, reference: Any) -> Tensor:
        """Return how far outputs are from reference outputs, which are taken as constants ("soft_loss").

        The default is KL(softmax(reference) || softmax(outputs)) over dimension 1, averaged over everything
        else.
        """
        return class_divergence(outputs, reference)

    def unlabelled(self, count: int, generator: torch.Generator) -> Any:
        """Return random inputs without labels, augmented as in training ("unlabelled").

        Args:
            count: How many; drawn with replacement where there are fewer.
            generator: Source of randomness, on the CPU.
        """
        raise self._not_offered("unlabelled")

    def output_layers(self, model: nn.Module) -> Sequence[str]:
        """Return the names of the submodules that make the predictions, which sub-networks never narrow."""
        raise self._not_offered("views")

    def narrowed(self, model: nn.Module) -> tuple[nn.Module, Sequence[str]]:
        """Return the part of a model that sub-networks are narrow in, and the submodules of it that keep their outputs.

        The default is the whole model, with its output layers. A part whose outputs all stay full, where the rest of a
        model costs more to follow than to run, is the reason to say otherwise.
        """
        return model, self.output_layers(model)

    def _not_offered(self, capability: str) -> UserError:
        return UserError(
            f"{self.settings.name} does not offer {capability!r} (see its settings' 'provides')."
        )


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run a model in evaluation mode and without gradients; its flags are as before afterwards."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in flags:
            module.training = training


def class_loss(logits: Tensor, batch: Batch, *, ignore_index: int = -100) -> Tensor:
    """Return the cross-entropy of logits with a batch's labels, mixed and smoothed as the batch says.

    With mixed labels it is weight·CE(own) + (1-weight)·CE(partner) at each position, averaged over the weight
    that counts: that of a label which is ``ignore_index`` does not. It is NaN where no label counts, as in
    torch.

    Args:
        logits: [B, K, *].
        batch: Labels int64 [B, *].
        ignore_index: Label of positions that do not count.

    Returns:
        Scalar, float32 at least.
    """
    logits = _single_at_least(logits)

    def cross_entropy(targets: Tensor, reduction: str) -> Tensor:
        return F.cross_entropy(
            logits, targets, ignore_index=ignore_index, label_smoothing=batch.smoothing, reduction=reduction
        )

    if batch.mixed is None:
        return cross_entropy(batch.targets, "mean")
    weight = batch.mixed.weight.to(logits.dtype)
    weight = weight.reshape(-1, *[1] * (batch.targets.ndim - 1))
    own, partner = batch.targets, batch.mixed.targets
    losses: Tensor = weight * cross_entropy(own, "none") + (1 - weight) * cross_entropy(partner, "none")
    counted: Tensor = weight * (own != ignore_index) + (1 - weight) * (partner != ignore_index)
    loss: Tensor = losses.sum() / counted.sum()
    return loss


def class_divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """Return KL(softmax(reference) || softmax(logits)) over dimension 1, averaged over everything else.

    Args:
        logits: [B, K, *].
        reference: [B, K, *], taken as constants.

    Returns:
        Scalar, float32 at least.
    """
    log_p = F.log_softmax(_single_at_least(logits), dim=1)
    log_q = F.log_softmax(_single_at_least(reference.detach()), dim=1)
    return (log_q.exp() * (log_q - log_p)).sum(dim=1).mean()


def _single_at_least(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
