"""Sequences of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from regathlon_core.features import FeaturePoint
from regathlon_core.recipe import Budget, Recipe
from regathlon_core.rng import stream
from regathlon_core.settings import ModelSettings, TaskSettings
from regathlon_core.task import Batch, Split, Task, View
from regathlon_core.testing.toys.base import SPLITS, ToyTask

VOCABULARY = 7
"""Tokens 1 to 6 carry meaning; 0 stands for an absent one."""


@dataclass(frozen=True)
class ToyMixerSettings(ModelSettings):
    """Embedding and two blocks with layer-norm, a residual connection and dropout."""

    name: ClassVar[str] = "toy_mixer"
    summary: ClassVar[str] = "token blocks with layer-norm and dropout"
    implementation: ClassVar[str] = "regathlon_core.testing.toys.tokens:build_toy_mixer"
    width: int = 8
    dropout: float = 0.1


@dataclass(frozen=True)
class ToyTokensSettings(TaskSettings):
    """Sequences in which two of six tokens are frequent: one and two, three and four, or five and six."""

    name: ClassVar[str] = "sequences/toy"
    summary: ClassVar[str] = "which tokens are frequent"
    implementation: ClassVar[str] = "regathlon_core.testing.toys.tokens:ToyTokens"
    dataset: ClassVar[str] = "toy"
    provides: ClassVar[frozenset[str]] = frozenset(
        {"class_labels", "sample_labels", "features", "residual", "soft_loss", "views"}
    )
    views: ClassVar[tuple[str, ...]] = ("token_mask",)
    models: ClassVar[tuple[type[ModelSettings], ...]] = (ToyMixerSettings,)
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adamw", lr=0.01, weight_decay=0.01, batch_size=16, budget=Budget(epochs=2)
    )
    metric: ClassVar[str] = "accuracy"
    samples: int = 48
    length: int = 11


class ToyTokens(ToyTask):
    """See ``ToyTokensSettings``.

    Example:
        >>> ToyTokens().batch("train", torch.arange(4)).inputs.shape
        torch.Size([4, 11])
    """

    def __init__(self, settings: ToyTokensSettings | None = None, data: object = None) -> None:
        settings = settings if settings is not None else ToyTokensSettings()
        super().__init__(
            settings,
            {
                split: _sequences(settings, split, count or settings.samples)
                for split, count in SPLITS.items()
            },
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return ("low", "middle", "high")

    @property
    def in_channels(self) -> int:
        """Size of the vocabulary."""
        return VOCABULARY

    def features(self, model: nn.Module) -> Sequence[FeaturePoint]:
        """Return the outputs of both blocks."""
        width = model.embedding.embedding_dim  # type: ignore[union-attr]
        return [FeaturePoint(name, channels=width, layout="channels_last") for name in ("block1", "block2")]  # type: ignore[arg-type]

    def views(self, batch: Batch, generator: torch.Generator, kinds: Sequence[str] = ()) -> Iterator[View]:
        """Yield the sequences with a tenth of their tokens absent."""
        self.view_kinds(kinds)
        while True:
            lost = torch.rand(batch.inputs.shape, generator=generator, device=generator.device) < 0.1
            yield View(batch.replace(inputs=batch.inputs.masked_fill(lost, 0)))


def _sequences(settings: ToyTokensSettings, split: Split, count: int) -> tuple[Tensor, Tensor]:
    generator = stream(0, "toy tokens", split)
    labels = torch.arange(count) % 3
    shape = count, settings.length
    frequent = 1 + 2 * labels[:, None] + torch.randint(2, shape, generator=generator)
    others = torch.randint(1, VOCABULARY, shape, generator=generator)
    return torch.where(torch.rand(shape, generator=generator) < 0.6, frequent, others), labels


class _Block(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        out: Tensor = x + self.dropout(self.mlp(y + y.mean(dim=1, keepdim=True)))
        return out


class _ToyMixer(nn.Module):
    def __init__(self, vocabulary: int, width: int, dropout: float, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.block1 = _Block(width, dropout)
        self.block2 = _Block(width, dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.block2(self.block1(self.embedding(tokens))).mean(dim=1))
        return out


def build_toy_mixer(settings: ToyMixerSettings, task: Task) -> nn.Module:
    """Build the model."""
    return _ToyMixer(task.in_channels, settings.width, settings.dropout, len(task.classes))
