"""Layer-wise Relevance Propagation through unmodified models."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from regathlon_core.attribution.calls import HANDLERS, READS_SELF, RUNNERS
from regathlon_core.attribution.composites import Composite, find_composite
from regathlon_core.attribution.layers import Layer
from regathlon_core.attribution.record import Record, Value
from regathlon_core.attribution.targets import class_weights, explained_tensor, logits_of, unwrapped
from regathlon_core.errors import UserError, unknown
from regathlon_core.passes import PassRole, run_as


def lrp(
    model: nn.Module,
    inputs: Any,
    target: int | Tensor,
    composite: str | Composite = "epsilon_plus_flat",
    init: Literal["one", "logit"] = "one",
    *,
    wrt: Callable[[Any], Tensor] | None = None,
    forward: Callable[[nn.Module, Any], Tensor] | None = None,
) -> Tensor:
    """Return the relevance of every input element for a class: Layer-wise Relevance Propagation (LRP).

    The model is any ordinary module, called once, in evaluation mode, without gradients. The calls of the
    torch API that it makes are recorded and then walked backwards with one rule per kind of call, so
    functional activations, additions, concatenations, gathers and batch-norm need no preparation. Relevance
    is conserved: it sums up, per sample, to what was injected at the output, but for the share of stabilisers
    (and of biases in ``epsilon_norm``; ``official_2d`` conserves nothing). The result is a constant: no graph,
    no second derivatives.

    Nothing is left on the model: no hook, no gradient, no changed weight, flag or buffer, and the global
    random state is as before; also after an exception.

    Args:
        model: The model. Wrappers of data parallelism and ``torch.compile`` are looked through.
        inputs: What it is called with: a tensor [B, ...], or any object, with ``wrt``.
        target: What to explain: one class for all samples, a class per sample (int64 [B]), or weights of all
            classes per sample (floating point [B, K]; mixed labels, say).
        composite: Which rule each layer gets: a name of ``COMPOSITES`` or a ``Composite``.
        init: Relevance to start from at the output: ``"one"``, or ``"logit"``, the target's logit. Where the
            model ends in a (log-)softmax, that is left out and its logits are explained.
        wrt: Picks, out of ``inputs``, the tensor whose relevance is asked for; it must be the one that the
            model computes with. Default: ``inputs`` itself.
        forward: How to get logits [B, K] from the model and the inputs. Default: ``model(inputs)``.

    Returns:
        Relevance, shaped and typed like the tensor that is explained.

    Raises:
        UserError: A class outside of the output, an unknown composite, a call that no rule covers (the
            message names the call and the layer), or an input that the output does not depend on.

    Example:
        >>> from torch import nn
        >>> from regathlon_core.attribution import lrp
        >>> features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
        >>> model = nn.Sequential(features, nn.Linear(288, 5)).double()
        >>> relevance = lrp(model, torch.rand(2, 3, 8, 8).double(), target=torch.tensor([1, 4]))
        >>> relevance.shape, relevance.sum(dim=(1, 2, 3)).round(decimals=3).tolist()
        (torch.Size([2, 3, 8, 8]), [1.0, 1.0])

        For an object of one's own, say which of its tensors to explain:

        >>> batch = {"points": torch.rand(2, 3, 16)}
        >>> model = nn.Sequential(nn.Conv1d(3, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5))
        >>> lrp(model, batch, 0, wrt=lambda b: b["points"], forward=lambda m, b: m(b["points"])).shape
        torch.Size([2, 3, 16])

    Source: Bach et al., PLoS ONE 2015; rules and further sources in ``attribution/rules.py`` and
    ``attribution/calls.py``. On a ResNet it equals ``EpsilonPlusFlat`` of zennit 0.5.1
    (https://github.com/chr5tphr/zennit) with ``zero_params="bias"`` and a canonizer, but for these deviations:

    1. Batch-norm behind a layer merges into it exactly; zennit leaves the norm's ε = 1e-5 behind in the
       merged model, which shrinks every activation a little.
    2. Additions are always seen and divide relevance; there, only where a canonizer knows the architecture.
    3. What is subtracted, divided by or used as a gate gets nothing; attention weights are constants.
    4. z+ loses no relevance at outputs without positive contributions (``ZPlus``), biases of fully connected
       layers before the last one are spread (``Epsilon``), and the stabiliser, 1e-6 in float32, shrinks with
       the rounding error of float64.
    """
    return _propagate(model, inputs, target, composite, init, wrt, forward, ())[0].contiguous()


def lrp_of_layers(
    model: nn.Module,
    inputs: Any,
    target: int | Tensor,
    layers: Sequence[str],
    composite: str | Composite = "epsilon_plus_flat",
    init: Literal["one", "logit"] = "one",
    *,
    wrt: Callable[[Any], Tensor] | None = None,
    forward: Callable[[nn.Module, Any], Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return the relevance of what layers inside a model put out; see ``lrp``, which says the same of the input.

    Args:
        model: As for ``lrp``, and so are the others.
        inputs: What it is called with.
        target: What to explain.
        layers: Dotted names of modules; each must put out one tensor, and the last call of each counts.
        composite: Rules.
        init: Relevance to start from.
        wrt: Picks the tensor that the model computes with.
        forward: How to get logits.

    Returns:
        By name, relevance shaped like the layer's output; zeros where none reached it.

    Raises:
        UserError: As for ``lrp``, or there is no such layer.

    Example:
        >>> from torch import nn
        >>> from regathlon_core.attribution import lrp_of_layers
        >>> model = nn.Sequential(nn.Conv1d(3, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5))
        >>> relevance = lrp_of_layers(model, torch.rand(2, 3, 16), 0, ["1"])["1"]
        >>> relevance.shape, relevance.sum((1, 2)).round(decimals=3).tolist()
        (torch.Size([2, 8, 16]), [1.0, 1.0])
    """
    return dict(
        zip(layers, _propagate(model, inputs, target, composite, init, wrt, forward, layers), strict=True)
    )


def _propagate(
    model: nn.Module,
    inputs: Any,
    target: int | Tensor,
    composite: str | Composite,
    init: Literal["one", "logit"],
    wrt: Callable[[Any], Tensor] | None,
    forward: Callable[[nn.Module, Any], Tensor] | None,
    layers: Sequence[str],
) -> list[Tensor]:
    """Return the relevance of the layers' outputs; where none is named, that of the input."""
    rules = find_composite(composite)
    if init not in ("one", "logit"):
        raise UserError(f"init is 'one' or 'logit', not {init!r}.")
    model = unwrapped(model)
    explained = explained_tensor(inputs, wrt)
    devices = [explained.device] if explained.device.type == "cuda" else []
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast(explained.device.type, enabled=False),
        torch.random.fork_rng(devices=devices),
        run_as(model, PassRole.ATTRIBUTION),
    ):
        record = Record(model, rules, HANDLERS, RUNNERS, READS_SELF)
        record.watch(explained)
        with _outputs_of(model, layers, record) as outputs_of_layers, record:
            outputs = model(inputs) if forward is None else forward(model, inputs)
        value, logits = _pre_softmax(record, logits_of(outputs))
        weights = class_weights(logits, target)
        value.relevance = weights * logits if init == "logit" else weights
        record.explained = _last_layer(value)
        if not layers:
            return [_walk_back(record)]
        wanted = [outputs_of_layers[name] for name in layers]
        found = _walk_back_to(record, wanted)
        return [
            found.get(output, torch.zeros(output.shape, dtype=output.dtype, device=output.device))
            for output in wanted
        ]


@contextlib.contextmanager
def _outputs_of(model: nn.Module, layers: Sequence[str], record: Record) -> Iterator[dict[str, Value]]:
    """Note what is known of the outputs of layers while a pass runs."""
    found: dict[str, Value] = {}
    modules = dict(model.named_modules())
    for name in layers:
        if name not in modules:
            raise unknown("layer", name, modules)

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            value = record.value(output) if isinstance(output, Tensor) else None
            if value is None:
                raise UserError(
                    f"The layer {name!r} puts out no floating-point tensor that depends on the input."
                )
            found[name] = value

        return hook

    handles = [modules[name].register_forward_hook(note(name)) for name in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
    for name in layers:
        if name not in found:
            raise UserError(f"The layer {name!r} did not run.")


def _pre_softmax(record: Record, outputs: Tensor) -> tuple[Value, Tensor]:
    value = record.value(outputs)
    if value is None:
        raise UserError("The model's output does not depend on the explained tensor, so nothing is relevant.")
    while value.call is not None and value.call.name in ("softmax", "log_softmax"):
        value, saved = value.call.details
        outputs = saved.tensor
    return value, outputs


def _last_layer(logits: Value) -> Value:
    """Return what the classifier put out, where logits were only scaled, moved or reshaped since."""
    value = logits
    while value.carries is not None:
        value = value.carries
    return value if value.call is not None and isinstance(value.call.details, Layer) else logits


def _walk_back(record: Record) -> Tensor:
    assert record.source is not None
    for _ in _backwards(record):
        pass
    if record.source.relevance is None:
        raise UserError(
            "No relevance reached the explained tensor: every path from it to the output is detached, or "
            "leads only through gates and norm denominators."
        )
    return record.source.relevance


def _walk_back_to(record: Record, wanted: Sequence[Value]) -> dict[Value, Tensor]:
    """Return the relevance of values inside; what none reached is left out."""
    found = {value: value.relevance for value in wanted if value.relevance is not None}
    for outputs, relevances in _backwards(record):
        found.update(
            {out: r for out, r in zip(outputs, relevances, strict=True) if out in wanted and r is not None}
        )
    return found


def _backwards(record: Record) -> Iterator[tuple[Sequence[Value], Sequence[Tensor | None]]]:
    """Walk the calls backwards; yield each call's outputs and their relevance before it flows on."""
    while record.calls:
        call = record.calls.pop()  # so that what it kept is freed on the way
        relevances = [out.relevance for out in call.outputs]
        yield call.outputs, relevances
        for out in call.outputs:
            out.relevance = None
        if all(r is None for r in relevances):
            continue
        if call.backward is None:
            where = f"layer {call.layer!r}" if call.layer else "the model"
            raise UserError(
                f"There is no relevance rule for {call.name}(), which {where} calls. Where its result is to "
                f"count as a constant, detach() it; otherwise explain with gradient_x_input."
            )
        for value, relevance in call.backward(relevances):
            value.receive(relevance)
