"""Attention: heads go, head sizes stay."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from regathlon_core.subnetworks.interception import FREE, Axis, Interception, rule
from regathlon_core.subnetworks.rules.layers import linear


@rule(F.scaled_dot_product_attention)
def scaled_dot_product_attention(
    run: Interception,
    function: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """[*, heads, L, E], [*, heads, S, E], [*, heads, S, V] to [*, heads, L, V]."""
    marks = [list(run.axes(tensor)) for tensor in (query, key, value)]
    if kwargs.get("enable_gqa"):
        heads = run.shape(key)[-3]
        group, each = run.split(marks[0][-3], [heads, run.shape(query)[-3] // heads])
        run.whole(each)
        run.combine(group, marks[1][-3], marks[2][-3])
        batch: list[Axis] = marks[0][:-2]
    else:
        batch = [run.combine(*column) for column in zip(*(mark[:-2] for mark in marks), strict=True)]
    features = run.combine(marks[0][-1], marks[1][-1])
    length = run.combine(marks[1][-2], marks[2][-2])
    mask_axes = [*batch, marks[0][-2], length]
    if attn_mask is not None:
        full = [*run.shape(query)[:-1], run.shape(key)[-2]]
        for back in range(1, attn_mask.dim() + 1):
            if run.shape(attn_mask)[-back] == full[-back] != 1:
                run.combine(mask_axes[-back], run.axes(attn_mask)[-back])
        attn_mask = run.fit(attn_mask, mask_axes)
    tensors = [
        run.fit(tensor, [*batch, *last])
        for tensor, last in (
            (query, (mask_axes[-2], features)),
            (key, (length, features)),
            (value, (length, marks[2][-1])),
        )
    ]
    return run.put(function(*tensors, attn_mask, *args, **kwargs), [*batch, marks[0][-2], marks[2][-1]])


@rule(F.multi_head_attention_forward, always=True)
def multi_head_attention(
    run: Interception,
    function: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """[L, N, E] and [S, N, E] to [L, N, E]; without a batch [L, E] and [S, E] to [L, E]."""
    unusual = {"bias_k": bias_k, "bias_v": bias_v, "static_k": static_k, "static_v": static_v}
    given = [name for name, tensor in unusual.items() if tensor is not None] + [
        "add_zero_attn"
    ] * add_zero_attn
    if given:
        raise run.error(function, f"Sub-networks of attention with {given[0]} are not supported.")
    inputs = query, key, value
    if use_separate_proj_weight:
        weights = q_proj_weight, k_proj_weight, v_proj_weight
        biases = [None] * 3 if in_proj_bias is None else _thirds(run, in_proj_bias)
        q, k, v = (
            linear(run, F.linear, *arguments) for arguments in zip(inputs, weights, biases, strict=True)
        )
    else:
        assert in_proj_weight is not None
        q, k, v = _project(run, inputs, in_proj_weight, in_proj_bias)
    with run:  # by calls that have rules of their own
        if query.dim() == 2:
            q, k, v = (tensor.unsqueeze(1) for tensor in (q, k, v))
        head = embed_dim_to_check // num_heads
        q, k, v = (
            t.unflatten(-1, (num_heads, head)).permute(1, 2, 0, 3) for t in (q, k, v)
        )  # [N, heads, L, head]
        mask = _mask(attn_mask, key_padding_mask, num_heads, q)
        dropout_p = dropout_p if training else 0.0
        attention = None
        if need_weights:
            scores = torch.matmul(q * math.sqrt(1.0 / head), k.transpose(-2, -1))
            attention = F.dropout(F.softmax(scores if mask is None else scores + mask, dim=-1), dropout_p)
            out = torch.matmul(attention, v)
            attention = attention.mean(dim=1) if average_attn_weights else attention
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask, dropout_p)
        out = F.linear(out.permute(2, 0, 1, 3).flatten(2), out_proj_weight, out_proj_bias)
        if query.dim() == 2:
            out, attention = out.squeeze(1), None if attention is None else attention.squeeze(0)
    return out, attention


def _project(
    run: Interception, inputs: tuple[Tensor, ...], weight: Tensor, bias: Tensor | None
) -> list[Tensor]:
    """Multiply queries, keys and values by their thirds of the packed weight [3 E, E]."""
    query, key, value = inputs
    size = weight.shape[0] // 3
    rows = run.produced(weight, 0)
    thirds = run.cut(rows, [size] * 3)
    if query is key is value:
        packed = linear(run, F.linear, query, weight, bias)
        lengths = [run.count(third, size) for third in thirds]
        pieces = zip(packed.split(lengths, dim=-1), thirds, strict=True)
        return [run.put(piece, [*run.axes(query)[:-1], third]) for piece, third in pieces]
    out = []
    columns = [None if axis is FREE else axis for axis in (run.axes(tensor)[-1] for tensor in inputs)]
    weights = _thirds(run, weight)
    biases = [None] * 3 if bias is None else _thirds(run, bias)
    for tensor, w, b, third, column in zip(inputs, weights, biases, thirds, columns, strict=True):
        b = None if b is None else run.fit(b, [third])
        out.append(run.put(F.linear(tensor, run.fit(w, [third, column]), b), [*run.axes(tensor)[:-1], third]))
    return out


def _thirds(run: Interception, packed: Tensor) -> list[Tensor]:
    return [run.put(piece, [FREE] * packed.dim()) for piece in packed.chunk(3)]


def _mask(attn_mask: Tensor | None, padding: Tensor | None, heads: int, like: Tensor) -> Tensor | None:
    """Return one additive mask that broadcasts to [N, heads, L, S]."""
    total = None
    if attn_mask is not None:
        attn_mask = _additive(attn_mask, like)
        total = attn_mask if attn_mask.dim() == 2 else attn_mask.reshape(-1, heads, *attn_mask.shape[1:])
    if padding is not None:
        padding = _additive(padding if padding.dim() == 2 else padding.unsqueeze(0), like)[:, None, None]
        total = padding if total is None else total + padding
    return total


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(mask, float("-inf"))
