"""Rotary embeddings, and attention that rotates and keeps its keys and values in a cache."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.attention import (
    UNSEEN,
    Scores,
    apart,
    attend,
    hiding,
    rows,
    together,
)
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    Misfit,
    NotExpressible,
    SSAValue,
    shape_of,
)
from npu_dialect.frontends.onnx.ops.selection import tensor_scatter
from npu_dialect.frontends.onnx.registry import MICROSOFT, op


@op("RotaryEmbedding", domain=MICROSOFT)
def rotary_embedding(
    b: Builder,
    x: SSAValue,
    position_ids: SSAValue,
    cosines: SSAValue,
    sines: SSAValue,
    *,
    interleaved: int = 0,
    is_packed_batching: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
) -> SSAValue:
    """Positions for every step, or that of the first one."""
    if is_packed_batching or scale != 1.0:
        raise NotExpressible("RotaryEmbedding of packed batches, or with a scale")
    whole = len(shape_of(x)) == 4
    size = 2 * shape_of(cosines)[1]
    heads = num_heads if rotary_embedding_dim else shape_of(x)[-1] // size
    data = x if whole else apart(b, x, heads)
    batch, _, steps, _ = shape_of(data)
    if shape_of(position_ids) == (1,):
        first = common.cast(b, position_ids, dtypes.i32)
        position_ids = common.reshape(b, common.add(b, first, _iota(b, steps)), (1, steps))
        position_ids = common.broadcast(b, position_ids, (batch, steps))
    turned = rotated(b, data, position_ids, (cosines, sines), bool(interleaved))
    return turned if whole else together(b, turned)


def _iota(b: Builder, size: int) -> SSAValue:
    return common.iota(b, size, 1, 0)


def rotated(
    b: Builder,
    x: SSAValue,
    positions: SSAValue,
    tables: tuple[SSAValue, SSAValue],
    interleaved: bool,
) -> SSAValue:
    """x [batch, heads, steps, size]: its first 2 * h channels are pairs, turned by the angles of
    the tables [positions, h] at the positions [batch, steps].
    """
    batch, heads, steps, size = shape_of(x)
    half = shape_of(tables[0])[1]
    if 2 * half > size:
        raise Misfit(f"{half} angles for {size} channels")
    angles = [common.reshape(b, rows(b, t, positions), (batch, 1, steps, half)) for t in tables]
    first, second = (
        common.along(b, x, 3, k if interleaved else k * half, half, 2 if interleaved else 1)
        for k in (0, 1)
    )
    cosine, sine = angles
    real = common.sub(b, common.mul(b, first, cosine), common.mul(b, second, sine))
    other = common.add(b, common.mul(b, first, sine), common.mul(b, second, cosine))
    rest = [common.along(b, x, 3, 2 * half, size - 2 * half)] if 2 * half < size else []
    if not interleaved:
        return common.concat(b, [real, other, *rest], 3)
    column = (batch * heads * steps, half, 1)
    pairs = common.concat(b, [common.reshape(b, part, column) for part in (real, other)], 2)
    pairs = common.reshape(b, pairs, (batch, heads, steps, 2 * half))
    return common.concat(b, [pairs, *rest], 3)


@op("GroupQueryAttention", domain=MICROSOFT)
def group_query_attention(
    b: Builder,
    query: SSAValue,
    key: SSAValue | None,
    value: SSAValue | None,
    past_key: SSAValue | None,
    past_value: SSAValue | None,
    seqlens_k: SSAValue,
    total_sequence_length: SSAValue,
    cos_cache: SSAValue | None = None,
    sin_cache: SSAValue | None = None,
    position_ids: SSAValue | None = None,
    attention_bias: SSAValue | None = None,
    head_sink: SSAValue | None = None,
    *,
    causal: int = 1,
    do_rotary: int = 0,
    kv_num_heads: int,
    local_window_size: int = -1,
    num_heads: int,
    rotary_interleaved: int = 0,
    scale: float = 0.0,
    smooth_softmax: int = 0,
    softcap: float = 0.0,
) -> list[SSAValue]:
    """New keys and values are put behind those of the cache, whose filled part may differ in the
    batch: `seqlens_k` is the last position of each after that.
    """
    if head_sink is not None or smooth_softmax or not causal or b.wants(3):
        raise NotExpressible("GroupQueryAttention with a sink, not causal, or with its scores")
    q, k, v = _heads(b, query, key, value, num_heads, kv_num_heads)
    batch, _, steps, _ = shape_of(q)
    length = int(b.known(total_sequence_length, "total_sequence_length").reshape(()))
    last = common.reshape(b, common.cast(b, seqlens_k, dtypes.i32), (batch, 1))
    first = common.sub(b, last, b.scalar(steps - 1, last))
    if length == steps:
        first = b.constant(np.zeros((batch, 1), np.int32))
    places = common.add(b, first, common.reshape(b, _iota(b, steps), (1, steps)))
    if do_rotary:
        if cos_cache is None or sin_cache is None:
            raise Misfit("a rotation without the inputs cos_cache and sin_cache")
        at = places if position_ids is None else position_ids
        tables = (cos_cache, sin_cache)
        q, k = (rotated(b, x, at, tables, bool(rotary_interleaved)) for x in (q, k))
    k, v = (_cached(b, p, x, first, length) for p, x in ((past_key, k), (past_value, v)))
    how = Scores(scale or None, softcap, (_visible(b, places, shape_of(k)[2], local_window_size),))
    if attention_bias is not None:
        how = replace(how, terms=(attention_bias, *how.terms))
    return [together(b, attend(b, q, k, v, how)), k, v]


def _heads(
    b: Builder,
    query: SSAValue,
    key: SSAValue | None,
    value: SSAValue | None,
    heads: int,
    shared: int,
) -> tuple[SSAValue, SSAValue, SSAValue]:
    """Queries, keys and values with their heads apart, from three tensors or from one."""
    if key is not None and value is not None:
        return apart(b, query, heads), apart(b, key, shared), apart(b, value, shared)
    size = shape_of(query)[2] // (heads + 2 * shared)
    widths = (heads * size, shared * size, shared * size)
    starts = (0, widths[0], widths[0] + widths[1])
    parts = [common.along(b, query, 2, p, n) for p, n in zip(starts, widths, strict=True)]
    return apart(b, parts[0], heads), apart(b, parts[1], shared), apart(b, parts[2], shared)


def _cached(
    b: Builder, past: SSAValue | None, x: SSAValue, first: SSAValue, length: int
) -> SSAValue:
    """`x` [batch, heads, steps, size] from the positions `first` on in a cache of `length`."""
    if past is None:
        return x
    batch, _, before, _ = shape_of(past)
    missing = max(length - before, 0)
    cache = common.pad(b, past, (0, 0, 0, 0), (0, 0, missing, 0))
    start = common.reshape(b, first, (batch,))
    return tensor_scatter(b, cache, x, start, axis=2, mode="linear")


def _visible(b: Builder, places: SSAValue, keys: int, window: int) -> SSAValue:
    """The term that hides the keys after each query, and those `window` or more before it."""
    batch, steps = shape_of(places)
    at = common.reshape(b, places, (batch, 1, steps, 1))
    key = common.iota(b, keys, 4, 3)
    seen = b.emit(graph.LeOp(key, at))
    if window >= 0:
        oldest = common.sub(b, at, b.scalar(window, at))
        seen = b.emit(graph.AndOp(seen, b.emit(graph.GtOp(key, oldest))))
    return hiding(b, seen, UNSEEN)
