"""What the networks are made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def scaled(channels: Sequence[int], width: float) -> list[int]:
    """Return channel counts times a factor, at least 1 each."""
    return [max(1, round(count * width)) for count in channels]


def shared_layer(channels: int, out: int, slope: float = 0.0) -> nn.Sequential:
    """Return a layer that every point passes alone, [B, C, N]; ``slope`` is the activation's for negatives."""
    return nn.Sequential(nn.Conv1d(channels, out, 1, bias=False), PointNorm(out), activation(slope))


def dense_layer(channels: int, out: int, slope: float = 0.0) -> nn.Sequential:
    """Return a fully connected layer of whole clouds, [B, C]."""
    return nn.Sequential(nn.Linear(channels, out, bias=False), PointNorm(out), activation(slope))


def activation(slope: float) -> nn.Module:
    """Return a ReLU, or a leaky one."""
    return nn.LeakyReLU(slope) if slope else nn.ReLU()


class _TakesSingles(nn.modules.batchnorm._BatchNorm):
    """Normalises a single value per channel, which has no variance, by the running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised features."""
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class PointNorm(_TakesSingles, nn.BatchNorm1d):
    """Batch-norm of [B, C, N] or [B, C] that also takes a single point or cloud."""


class EdgeNorm(_TakesSingles, nn.BatchNorm2d):
    """Batch-norm of [B, C, N, k] that also takes a single edge."""


def head(channels: int, hidden: Sequence[int], dropout: float, slope: float = 0.0) -> nn.Sequential:
    """Return fully connected layers, each followed by dropout."""
    sizes = [channels, *hidden]
    layers: list[nn.Module] = []
    for before, after in zip(sizes, hidden, strict=False):
        layers.append(dense_layer(before, after, slope))
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def gather(features: Tensor, index: Tensor) -> Tensor:
    """Return the features [B, C, *S] of points [B, C, N] that int64 [B, *S] names."""
    flat = index.flatten(1)[:, None].expand(-1, features.shape[1], -1)
    return features.gather(2, flat).view(*features.shape[:2], *index.shape[1:])
