"""Explanations by gradients, as alternatives to relevance propagation."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from regathlon_core.attribution.targets import class_weights, explained_tensor, logits_of, unwrapped
from regathlon_core.errors import UserError
from regathlon_core.passes import PassRole, run_as


def gradient_x_input(
    model: nn.Module,
    inputs: Any,
    target: int | Tensor,
    *,
    wrt: Callable[[Any], Tensor] | None = None,
    forward: Callable[[nn.Module, Any], Tensor] | None = None,
) -> Tensor:
    """Return gradient × input of a class's logit: R_i = x_i ∂f_c/∂x_i, in one pass forward and one back.

    On piecewise linear networks without biases it sums up to the logit. Works on every differentiable model.
    The result is a constant, and nothing is left on the model: flags, buffers, gradients and the random state
    are as before.

    Args:
        model: The model; run in evaluation mode.
        inputs: What it is called with: a tensor [B, ...], or any object, with ``wrt``.
        target: One class, a class per sample (int64 [B]), or weights of classes (floating point [B, K]).
        wrt: Picks the tensor to explain out of ``inputs``. Default: ``inputs`` itself.
        forward: How to get logits [B, K]. Default: ``model(inputs)``.

    Returns:
        Shaped and typed like the tensor that is explained.

    Raises:
        UserError: A class outside of the output, or an input that the output does not depend on.

    Example:
        >>> from regathlon_core.attribution import gradient_x_input
        >>> model = torch.nn.Linear(3, 2, bias=False)
        >>> x = torch.tensor([[1.0, 2.0, 3.0]])
        >>> bool(torch.allclose(gradient_x_input(model, x, 0), x * model.weight[0]))
        True

    Source: Shrikumar et al., "Not just a black box: learning important features through propagating
    activation differences", 2016 (arXiv 1605.01713).
    """
    model = unwrapped(model)
    if wrt is None and isinstance(inputs, Tensor):
        inputs = inputs.detach()  # a leaf of our own, so that the caller's tensor keeps its flag
    explained = explained_tensor(inputs, wrt)
    with _measuring(model, explained), torch.enable_grad(), _requiring_grad(explained):
        logits = logits_of(model(inputs) if forward is None else forward(model, inputs))
        weights = class_weights(logits.detach(), target)
        gradient = None
        if logits.requires_grad:
            (gradient,) = torch.autograd.grad(logits, explained, weights, allow_unused=True)
    if gradient is None:
        raise UserError("The model's output does not depend on the explained tensor.")
    return gradient * explained.detach()


def integrated_gradients(
    model: nn.Module,
    inputs: Tensor,
    target: int | Tensor,
    *,
    baseline: Tensor | float = 0.0,
    steps: int = 32,
    batch_size: int | None = None,
    wrt: Callable[[Any], Tensor] | None = None,
    forward: Callable[[nn.Module, Any], Tensor] | None = None,
) -> Tensor:
    """Return Integrated Gradients of a class's logit, computed by captum, which must be installed.

    R_i = (x_i − b_i) ∫₀¹ ∂f_c/∂x_i (b + t (x − b)) dt. It sums up to f_c(x) − f_c(b) as the steps grow.

    Args:
        model: The model; run in evaluation mode.
        inputs: [B, ...].
        target: One class, or a class per sample (int64 [B]).
        baseline: b: a number, or a tensor like the inputs.
        steps: Points of the integral's Gauss-Legendre rule.
        batch_size: Evaluate at most that many points at once; None for all of them, B × steps.
        wrt: As for ``lrp``; what it picks must be the inputs themselves, which several points are put in for.
        forward: How to get logits [B, K] from the model and inputs. Default: ``model(inputs)``.

    Returns:
        Shaped and typed like the inputs.

    Raises:
        UserError: captum is not installed, a class outside of the output, or inputs that are no tensor.

    Example:
        >>> from regathlon_core.attribution import integrated_gradients
        >>> integrated_gradients(model, images, labels, baseline=0.0)  # doctest: +SKIP

    Source: Sundararajan et al., "Axiomatic attribution for deep networks", ICML 2017, eq. 1; captum's
    ``IntegratedGradients`` (https://captum.ai).
    """
    try:
        captum = importlib.import_module("captum.attr")
    except ImportError as error:
        raise UserError(
            "Integrated Gradients are computed by captum. Install it: pip install captum"
        ) from error
    model = unwrapped(model)
    if wrt is not None and wrt(inputs) is not inputs:
        raise UserError(
            "Integrated Gradients explain inputs that are a tensor, not a part of an object; use lrp or "
            "gradient_x_input there."
        )
    inputs = explained_tensor(inputs, None).detach()

    def scores(points: Tensor) -> Tensor:
        return logits_of(model(points) if forward is None else forward(model, points))

    with _measuring(model, inputs):
        with torch.no_grad():
            weights = class_weights(scores(inputs), target)
        attribution: Tensor = captum.IntegratedGradients(scores).attribute(
            inputs,
            baselines=baseline,
            target=weights.argmax(1),
            n_steps=steps,
            internal_batch_size=batch_size,
        )
    return attribution.detach().to(inputs.dtype)


@contextlib.contextmanager
def _measuring(model: nn.Module, explained: Tensor) -> Iterator[None]:
    devices = [explained.device] if explained.device.type == "cuda" else []
    with (
        torch.inference_mode(False),
        torch.autocast(explained.device.type, enabled=False),
        torch.random.fork_rng(devices=devices),
        run_as(model, PassRole.ATTRIBUTION),
    ):
        yield


@contextlib.contextmanager
def _requiring_grad(tensor: Tensor) -> Iterator[None]:
    before = tensor.requires_grad
    if not before:
        tensor.requires_grad_()
    try:
        yield
    finally:
        if not before:
            tensor.requires_grad_(False)
