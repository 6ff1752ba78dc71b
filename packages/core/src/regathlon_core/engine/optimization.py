"""Optimizers from recipes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from regathlon_core.recipe import Recipe
from regathlon_core.regularizer import Regularizer


def build_optimizer(recipe: Recipe, model: nn.Module, regularizer: Regularizer[Any]) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over the trainable parameters of model and regularizer."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for module in (model, regularizer):
        for parameter in module.parameters():
            if parameter.requires_grad:
                exempt = parameter.ndim <= 1 and not recipe.decay_norm_and_bias
                (plain if exempt else decayed).append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": recipe.weight_decay}]
    if plain:
        groups.append({"params": plain, "weight_decay": 0.0})
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov)
    adam = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return adam(groups, lr=recipe.lr)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
