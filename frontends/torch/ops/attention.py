"""Scaled dot product attention, whole."""

from __future__ import annotations

import math

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.torch.ops import common
from npu_dialect.frontends.torch.ops.common import (
    Builder,
    NotExpressible,
    SSAValue,
    dtype_of,
    shape_of,
)
from npu_dialect.frontends.torch.ops.contraction import turned
from npu_dialect.frontends.torch.registry import op

MASKED = -1e30
"""A forbidden score: its exponential is 0 beside any other, and a row of them is finite."""


@op("scaled_dot_product_attention")
def attention(
    b: Builder,
    query: SSAValue,
    key: SSAValue,
    value: SSAValue,
    attn_mask: SSAValue | None,
    dropout_p: float,
    is_causal: bool,
    *,
    scale: float | None,
    enable_gqa: bool,
) -> SSAValue:
    """softmax(query @ key.T * scale + mask) @ value"""
    if dropout_p:
        raise NotExpressible("attention with dropout")
    if enable_gqa:
        heads = shape_of(query)[-3]
        key, value = _repeated(b, key, heads), _repeated(b, value, heads)
    factor = 1 / math.sqrt(shape_of(query)[-1]) if scale is None else scale
    scores = common.product(b, common.scaled(b, query, factor), turned(b, key))
    if is_causal:
        rows, columns = shape_of(scores)[-2:]
        attn_mask = b.constant(np.tril(np.ones((rows, columns), np.bool_)))
    if attn_mask is not None:
        scores = _masked(b, scores, attn_mask)
    weights = b.emit(graph.SoftmaxOp(scores, axis=len(shape_of(scores)) - 1))
    return common.product(b, weights, value)


def _masked(b: Builder, scores: SSAValue, mask: SSAValue) -> SSAValue:
    if dtype_of(mask) is not dtypes.bool_:
        return common.add(b, scores, mask)
    return common.where(b, mask, scores, b.scalar(MASKED, scores))


def _repeated(b: Builder, x: SSAValue, heads: int) -> SSAValue:
    """Each head as often as queries share it."""
    *outer, own, rows, columns = shape_of(x)
    apart = common.reshape(b, x, (*outer, own, 1, rows, columns))
    wide = common.broadcast(b, apart, (*outer, own, heads // own, rows, columns))
    return common.reshape(b, wide, (*outer, heads, rows, columns))
