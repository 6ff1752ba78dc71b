"""Recurrent layers: the hidden units of all layers and directions are one axis, as their common state is one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regathlon_core.subnetworks.interception import FREE, Axis, Interception, rule

_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@rule(torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu, always=True)
def recurrent(
    run: Interception,
    function: Any,
    input: Tensor,
    state: Any,
    weights: Sequence[Tensor],
    has_biases: Any,
    num_layers: Any,
    dropout: Any,
    train: Any,
    bidirectional: Any,
    batch_first: Any = None,
) -> Any:
    """``state`` is a tensor or a tuple of two, [layers · directions, B, H]."""
    if batch_first is None:
        raise run.error(function, "Sub-networks of packed sequences are not supported.")
    gates = _GATES[function.__name__]
    per_cell = 4 if has_biases else 2
    directions = 2 if bidirectional else 1
    if len(weights) != per_cell * num_layers * directions:
        raise run.error(function, "Sub-networks of recurrent layers with projections are not supported.")
    states = [state] if isinstance(state, Tensor) else list(state)
    size = run.shape(states[0])[-1]
    axes = run.axes(input)
    hidden: Axis = run.combine(*(run.axes(tensor)[-1] for tensor in states))
    for recurrent_weight in weights[1::per_cell]:
        hidden = run.combine(hidden, _units(run, recurrent_weight, gates))
    rows = run.merge([None, hidden], [gates, size])
    output = hidden if directions == 1 else run.cat([hidden] * directions, [size] * directions)
    narrow = []
    for at, weight in enumerate(weights):
        first_layer = at < per_cell * directions
        inputs: Axis = (None if axes[-1] is FREE else axes[-1]) if first_layer else output
        column = inputs if at % per_cell == 0 else hidden
        narrow.append(run.fit(weight, [rows, column][: weight.dim()]))
    states = [run.fit(tensor, [None] * (tensor.dim() - 1) + [hidden]) for tensor in states]
    passed = states[0] if isinstance(state, Tensor) else tuple(states)
    out, *final = function(
        input, passed, narrow, has_biases, num_layers, dropout, train, bidirectional, batch_first
    )
    for tensor in final:
        run.put(tensor, [None] * (tensor.dim() - 1) + [hidden])
    return run.put(out, [*axes[:-1], output]), *final


@rule(torch.lstm_cell, torch.gru_cell, torch.rnn_tanh_cell, torch.rnn_relu_cell, always=True)
def cell(
    run: Interception, function: Any, input: Tensor, state: Any, w_ih: Tensor, w_hh: Tensor, *biases: Tensor
) -> Any:
    """One step."""
    gates = _GATES[function.__name__.removesuffix("_cell")]
    states = [state] if isinstance(state, Tensor) else list(state)
    size = run.shape(states[0])[-1]
    axes = run.axes(input)
    hidden = run.combine(_units(run, w_hh, gates), *(run.axes(tensor)[-1] for tensor in states))
    rows = run.merge([None, hidden], [gates, size])
    w_ih = run.fit(w_ih, [rows, None if axes[-1] is FREE else axes[-1]])
    w_hh = run.fit(w_hh, [rows, hidden])
    states = [run.fit(tensor, [None] * (tensor.dim() - 1) + [hidden]) for tensor in states]
    passed = states[0] if isinstance(state, Tensor) else tuple(states)
    out = function(input, passed, w_ih, w_hh, *(run.fit(bias, [rows]) for bias in biases))
    if isinstance(out, Tensor):
        return run.put(out, [*axes[:-1], hidden])
    return tuple(run.put(tensor, [*axes[:-1], hidden]) for tensor in out)


def _units(run: Interception, weight: Tensor, gates: int) -> Axis:
    """Return the hidden units that a recurrent weight [gates · H, H] produces."""
    gate, units = run.split(run.produced(weight, 0), [gates, weight.shape[0] // gates])
    run.whole(gate)
    return units
