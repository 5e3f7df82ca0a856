"""Attention of onnxruntime's domain: heads apart, scores, masks, softmax, heads together.

Inside, queries are [batch, heads, steps, size], keys and values the same with as many heads or
fewer. A mask is a term of the scores, which broadcasts against [batch, heads, steps, keys].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    Misfit,
    NotExpressible,
    SSAValue,
    shape_of,
)
from npu_dialect.frontends.onnx.ops.linear import product
from npu_dialect.frontends.onnx.registry import MICROSOFT, op

HIDDEN = -10000.0
"""What onnxruntime adds to the score of a masked key, if no other number is stated."""

UNSEEN = float(np.finfo(np.float32).min)
"""What it adds to that of a key after the query, whatever else masks it."""


@dataclass(frozen=True)
class Scores:
    """How scores become weights."""

    scale: float | None = None
    """None for 1 / sqrt(size)."""
    softcap: float = 0.0
    terms: tuple[SSAValue, ...] = ()


def attend(b: Builder, q: SSAValue, k: SSAValue, v: SSAValue, how: Scores) -> SSAValue:
    """softmax(q k^T * scale + terms) v; heads of q share those of k and v."""
    (n, heads, steps, size), (_, shared, keys, _) = shape_of(q), shape_of(k)
    if not shared or heads % shared or shape_of(v)[:3] != (n, shared, keys):
        raise Misfit(f"queries {[*shape_of(q)]}, keys {[*shape_of(k)]}, values {[*shape_of(v)]}")
    scale = how.scale or 1 / math.sqrt(size)
    rows = common.reshape(b, common.scaled(b, q, scale), (n, shared, heads // shared * steps, size))
    scores = product(b, rows, common.transpose(b, k, (0, 1, 3, 2)))
    scores = common.reshape(b, scores, (n, heads, steps, keys))
    if how.softcap:
        bent = b.emit(graph.TanhOp(common.scaled(b, scores, 1 / how.softcap)))
        scores = common.scaled(b, bent, how.softcap)
    for term in how.terms:
        scores = common.add(b, scores, term)
    weights = b.emit(graph.SoftmaxOp(scores, axis=3))
    weights = common.reshape(b, weights, (n, shared, heads // shared * steps, keys))
    return common.reshape(b, product(b, weights, v), (n, heads, steps, shape_of(v)[3]))


def apart(b: Builder, x: SSAValue, heads: int) -> SSAValue:
    """[batch, steps, heads * size] -> [batch, heads, steps, size]"""
    n, steps, width = shape_of(x)
    if heads < 1 or width % heads:
        raise Misfit(f"{width} channels in {heads} heads")
    x = common.reshape(b, x, (n, steps, heads, width // heads))
    return common.transpose(b, x, (0, 2, 1, 3))


def together(b: Builder, x: SSAValue) -> SSAValue:
    """The inverse of `apart`."""
    n, heads, steps, size = shape_of(x)
    return common.reshape(b, common.transpose(b, x, (0, 2, 1, 3)), (n, steps, heads * size))


# Masks


def hidden_keys(
    b: Builder, mask: SSAValue | None, sizes: tuple[int, int, int], hidden: float, is_causal: bool
) -> list[SSAValue]:
    """The term of masked keys, and of later ones: queries are the last of the keys; none if there
    is neither. `sizes` are those of batch, steps and keys.

    A later key has UNSEEN alone, masked or not: so a query whose earlier keys are all masked weighs
    these, never a later one.
    """
    batch, steps, keys = sizes
    term = None if mask is None else key_mask(b, mask, batch, keys, hidden)
    if is_causal:
        b.reserve(steps, keys, itemsize=4)
        later = b.constant(np.triu(np.ones((steps, keys), np.bool_), keys - steps + 1))
        unseen, none = (b.constant(np.array(value, np.float32)) for value in (UNSEEN, 0))
        term = common.where(b, later, unseen, none if term is None else term)
    return [] if term is None else [term]


def hiding(b: Builder, seen: SSAValue, hidden: float) -> SSAValue:
    """0 where a key is seen, `hidden` where not."""
    none, much = (b.constant(np.array(value, np.float32)) for value in (0, hidden))
    return common.where(b, seen, none, much)


def key_mask(b: Builder, mask: SSAValue, batch: int, keys: int, hidden: float) -> SSAValue:
    """A mask [batch, keys] or [batch, steps, keys] of 0 and others, or lengths [batch]."""
    shape = shape_of(mask)
    number = common.cast(b, mask, dtypes.i32)
    if shape == (batch,):
        length = common.reshape(b, number, (batch, 1, 1, 1))
        return hiding(b, b.emit(graph.LtOp(common.iota(b, keys, 4, 3), length)), hidden)
    if len(shape) not in (2, 3) or shape[0] != batch or shape[-1] != keys:
        raise NotExpressible(f"a mask of shape {list(shape)} for {batch} x {keys} keys")
    number = common.reshape(b, number, (batch, 1, 1 if len(shape) == 2 else shape[1], keys))
    return hiding(b, b.emit(graph.GtOp(number, b.scalar(0, number))), hidden)


def _with_past(b: Builder, past: SSAValue | None, x: SSAValue) -> SSAValue:
    return x if past is None else common.concat(b, [past, x], 2)


def _unused(**values: object) -> None:
    for name, value in values.items():
        if value:
            raise NotExpressible(f"attention with {name}")


# Operators


@op("Attention", domain=MICROSOFT)
def attention(
    b: Builder,
    x: SSAValue,
    weights: SSAValue,
    bias: SSAValue | None = None,
    mask_index: SSAValue | None = None,
    past: SSAValue | None = None,
    attention_bias: SSAValue | None = None,
    past_sequence_length: SSAValue | None = None,
    *,
    do_rotary: int = 0,
    mask_filter_value: float = HIDDEN,
    num_heads: int,
    past_present_share_buffer: int = 0,
    qkv_hidden_sizes: Sequence[int] | None = None,
    rotary_embedding_dim: int = 0,
    scale: float | None = None,
    unidirectional: int = 0,
) -> list[SSAValue]:
    """One product makes queries, keys and values; `past` and `present` hold keys and values."""
    _unused(do_rotary=do_rotary, past_sequence_length=past_sequence_length,
            past_present_share_buffer=past_present_share_buffer,
            rotary_embedding_dim=rotary_embedding_dim)  # fmt: skip
    total = product(b, x, weights)
    total = total if bias is None else common.add(b, total, bias)
    return attended(
        b, total, num_heads, qkv_hidden_sizes, mask_index, past, attention_bias,
        Projected(scale, mask_filter_value, bool(unidirectional)),
    )  # fmt: skip


@dataclass(frozen=True)
class Projected:
    """The attributes of attention on queries, keys and values in one tensor."""

    scale: float | None
    hidden: float
    is_causal: bool


def attended(
    b: Builder,
    total: SSAValue,
    heads: int,
    sizes: Sequence[int] | None,
    mask: SSAValue | None,
    past: SSAValue | None,
    bias: SSAValue | None,
    how: Projected,
) -> list[SSAValue]:
    """Attention on [batch, steps, channels of queries, keys and values], and keys and values."""
    sizes = sizes or (shape_of(total)[2] // 3,) * 3
    if len(sizes) != 3 or sum(sizes) != shape_of(total)[2]:
        raise Misfit(f"{list(sizes)} channels of {shape_of(total)[2]}")
    starts = (0, sizes[0], sizes[0] + sizes[1])
    parts = [common.along(b, total, 2, p, n) for p, n in zip(starts, sizes, strict=True)]
    q, k, v = (apart(b, part, heads) for part in parts)
    if past is not None:
        old = [common.squeeze(b, common.along(b, past, 0, i, 1), (0,)) for i in (0, 1)]
        k, v = common.concat(b, [old[0], k], 2), common.concat(b, [old[1], v], 2)
    steps, keys = shape_of(q)[2], shape_of(k)[2]
    terms = [] if bias is None else [bias]
    terms += hidden_keys(b, mask, (shape_of(q)[0], steps, keys), how.hidden, how.is_causal)
    result = [together(b, attend(b, q, k, v, Scores(how.scale, 0.0, tuple(terms))))]
    if b.wants(1):
        both = [common.reshape(b, part, (1, *shape_of(part))) for part in (k, v)]
        result.append(common.concat(b, both, 0))
    return result


@op("MultiHeadAttention", domain=MICROSOFT)
def multi_head_attention(
    b: Builder,
    query: SSAValue,
    key: SSAValue | None = None,
    value: SSAValue | None = None,
    bias: SSAValue | None = None,
    key_padding_mask: SSAValue | None = None,
    attention_bias: SSAValue | None = None,
    past_key: SSAValue | None = None,
    past_value: SSAValue | None = None,
    past_sequence_length: SSAValue | None = None,
    cache_indirection: SSAValue | None = None,
    *,
    mask_filter_value: float = HIDDEN,
    num_heads: int,
    scale: float | None = None,
    unidirectional: int = 0,
) -> list[SSAValue]:
    """Queries, keys and values apart, or packed as [batch, steps, heads, 3 or 2, size]."""
    _unused(past_sequence_length=past_sequence_length, cache_indirection=cache_indirection,
            qk=b.wants(3))  # fmt: skip
    given = _unpacked(b, query, key, value)
    if bias is not None:
        given = _biased(b, given, bias)
    q, k, v = (x if len(shape_of(x)) == 4 else apart(b, x, num_heads) for x in given)
    k, v = _with_past(b, past_key, k), _with_past(b, past_value, v)
    sizes = shape_of(q)[0], shape_of(q)[2], shape_of(k)[2]
    terms = [] if attention_bias is None else [attention_bias]
    terms += hidden_keys(b, key_padding_mask, sizes, mask_filter_value, bool(unidirectional))
    return [together(b, attend(b, q, k, v, Scores(scale, 0.0, tuple(terms)))), k, v]


def _unpacked(
    b: Builder, query: SSAValue, key: SSAValue | None, value: SSAValue | None
) -> list[SSAValue]:
    packed, whole = (query, []) if key is None else (key, [query])
    if value is not None and key is not None:
        return [query, key, value]
    if len(shape_of(packed)) != 5:
        raise Misfit(f"packed heads of shape {list(shape_of(packed))}")
    n, steps, heads, count, size = shape_of(packed)
    if count != 3 - len(whole):
        raise Misfit(f"{count} parts packed into one tensor")
    parts = [common.along(b, packed, 3, part, 1) for part in range(count)]
    return [*whole, *(common.reshape(b, part, (n, steps, heads * size)) for part in parts)]


def _biased(b: Builder, given: Sequence[SSAValue], bias: SSAValue) -> list[SSAValue]:
    """Each with its part of the bias; keys and values that have their heads apart have theirs."""
    result: list[SSAValue] = []
    start = 0
    for x in given:
        if len(shape_of(x)) == 4:
            result.append(x)
            continue
        width = shape_of(x)[2]
        result.append(common.add(b, x, common.along(b, bias, 0, start, width)))
        start += width
    return result


@op("EmbedLayerNormalization", domain=MICROSOFT)
def embed_layer_normalization(
    b: Builder,
    input_ids: SSAValue,
    segment_ids: SSAValue | None,
    words: SSAValue,
    positions: SSAValue,
    segments: SSAValue | None,
    gamma: SSAValue,
    beta: SSAValue,
    mask: SSAValue | None = None,
    position_ids: SSAValue | None = None,
    *,
    epsilon: float = 1e-12,
    mask_index_type: int = 0,
) -> list[SSAValue]:
    """The layer norm of the sum of embeddings, the length of each mask, and that sum."""
    del mask_index_type
    batch, steps = shape_of(input_ids)
    width = shape_of(words)[1]
    total = rows(b, words, input_ids)
    if position_ids is None:
        place = common.window(b, positions, (0, 0), (steps, width))
    else:
        place = rows(b, positions, position_ids)
    total = common.add(b, total, place)
    if segments is not None and segment_ids is not None:
        total = common.add(b, total, rows(b, segments, segment_ids))
    lengths = b.constant(np.zeros(batch, np.int32))
    if mask is not None:
        lengths = common.reduce(b, graph.ReduceSumOp, mask, (1,), 0)
    axis = len(shape_of(total)) - 1
    scale, shift = gamma, beta
    normal = b.emit(graph.LayerNormOp(total, scale, shift, axis=axis, epsilon=epsilon))
    return [normal, lengths, total]


def rows(b: Builder, table: SSAValue, indices: SSAValue) -> SSAValue:
    """The rows of a table that `indices` name, in the shape of those."""
    flat = common.reshape(b, indices, (math.prod(shape_of(indices)),))
    found = b.emit(graph.GatherOp(table, flat))
    return common.reshape(b, found, (*shape_of(indices), shape_of(table)[1]))
