"""Where the greatest or least element is, of quantized tensors.

    dequantize(q) == dequantize(p)  ==>  q == p                         of one quantized type
    reduce_min(where(c, [0, 1, 2], 3))  ==>  reduce_min(where(...) as u8) as i32

The importers' ArgMax compares a tensor with its maximum, and takes the least position of those that
are equal. dequantize is strictly ascending, so that stored values compare as their numbers do.
"""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import i32
from xdsl.pattern_rewriter import PatternRewriter

from npu_dialect import dtypes, graph
from npu_dialect.dtypes import DType
from npu_dialect.graph.attributes import requant_fixed
from npu_dialect.graph.base import dtype_of, type_of
from npu_dialect.graph.elementwise import ComparisonOp
from npu_dialect.graph.quant import uniform
from npu_dialect.passes.qdq.common import one_scale, stored
from npu_dialect.passes.rewriting import Rules, constant, location_of, rebuild, replace

NARROW = (dtypes.u8, dtypes.i8, dtypes.u16, dtypes.i16)
"""Types that positions may have, the smallest first."""


def compare(op: ComparisonOp, rewriter: PatternRewriter) -> None:
    """A comparison of two tensors of one quantized type."""
    sources = [stored(v) for v in op.operands]
    a, b = sources
    if a is None or b is None or type_of(a).element_type != type_of(b).element_type:
        return
    quant = one_scale(a)
    if quant is None or quant.storage_dtype.itemsize > 2:
        return
    exact = requant_fixed(1, 0)
    distances = [
        graph.RequantizeOp(source, exact, i32, location=location_of(value))
        for source, value in zip((a, b), op.operands, strict=True)
    ]
    new = rebuild(op, distances)
    assert new is not None, "any two tensors of i32 that broadcast can be compared"
    replace(rewriter, op, *distances, new)


def narrow(op: graph.ReduceMinOp | graph.ReduceMaxOp, rewriter: PatternRewriter) -> None:
    """The extreme of a choice between known integers is stored in as few bytes as these need."""
    choice = op.x.owner
    if not isinstance(choice, graph.WhereOp) or dtype_of(op.x) is not dtypes.i32:
        return
    sides = [constant(v) for v in (choice.a, choice.b)]
    known = [array for array in sides if array is not None and array.size]
    kind = _fitting(np.concatenate([a.ravel() for a in known])) if len(known) == 2 else None
    if kind is None or not op.x.has_one_use():
        return
    exact = requant_fixed(1, 0)
    less = graph.RequantizeOp(op.x, exact, uniform(kind, 1.0), location=choice.location)
    extreme = rebuild(op, [less])
    assert extreme is not None, "quantized values have a least and a greatest one"
    whole = graph.RequantizeOp(extreme, exact, i32, location=op.location)
    replace(rewriter, op, less, extreme, whole)


def _fitting(values: np.ndarray[tuple[int], np.dtype[np.int32]]) -> DType | None:
    low, high = int(values.min()), int(values.max())
    return next((kind for kind in NARROW if kind.low <= low and high <= kind.high), None)


COMPARISONS = (graph.EqOp, graph.NeOp, graph.LtOp, graph.LeOp, graph.GtOp, graph.GeOp)

RULES: Rules = {
    **{kind: [compare] for kind in COMPARISONS},
    graph.ReduceMinOp: [narrow],
    graph.ReduceMaxOp: [narrow],
}
