"""What every way of explaining a model asks first: which tensor, of which model, for which class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.errors import UserError


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside wrappers of data parallelism and ``torch.compile``."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif "_orig_mod" in dict(model.named_children()):
            model = model.get_submodule("_orig_mod")
        else:
            return model


def explained_tensor(inputs: Any, wrt: Callable[[Any], Tensor] | None) -> Tensor:
    """Return the tensor to explain out of what a model is called with.

    Raises:
        UserError: It is no floating-point tensor.
    """
    explained = inputs if wrt is None else wrt(inputs)
    if not isinstance(explained, Tensor):
        raise UserError(
            f"The inputs are a {type(explained).__name__}, not a tensor: say which of its tensors to "
            f"explain, as in wrt=lambda inputs: inputs.x."
        )
    if not explained.is_floating_point():
        raise UserError(f"Inputs of {explained.dtype} cannot be explained; give floating-point ones.")
    return explained


def logits_of(outputs: Any) -> Tensor:
    """Return a model's outputs if they are logits [B, K].

    Raises:
        UserError: They are something else.
    """
    if isinstance(outputs, Tensor) and outputs.dim() == 2:
        return outputs
    got = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
    raise UserError(
        f"The model returned {got}; explaining starts from logits [B, K]. Give forward=lambda model, "
        f"inputs: ... that returns them."
    )


def class_weights(logits: Tensor, target: int | Tensor) -> Tensor:
    """Return the weight of every class per sample, [B, K] like the logits: one-hot for classes.

    Args:
        logits: [B, K].
        target: One class, int64 [B], or the weights themselves (floating point [B, K]).

    Raises:
        UserError: A class that the model does not have, or another shape.
    """
    samples, classes = logits.shape
    if isinstance(target, Tensor) and target.is_floating_point():
        if target.shape != logits.shape:
            raise UserError(f"Class weights are {tuple(target.shape)}, the logits {tuple(logits.shape)}.")
        return target.to(logits)
    labels = torch.as_tensor(target, device=logits.device)
    if labels.dtype == torch.bool or labels.is_floating_point() or labels.shape not in ((), (samples,)):
        raise UserError(
            f"The target is one class or one class per sample ({samples} of them), not {labels.dtype} of "
            f"shape {tuple(labels.shape)}."
        )
    labels = labels.long().expand(samples)
    # On other devices looking would wait for the device; the scatter reports the error there.
    if labels.device.type == "cpu":
        for label in labels[(labels < 0) | (labels >= classes)].tolist():
            raise UserError(f"Class {label} is asked for; the model has classes 0 to {classes - 1}.")
    return torch.zeros_like(logits).scatter_(1, labels[:, None], 1)
