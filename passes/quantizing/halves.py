"""Floats of 16 bits: what is stored between operations, and what contractions read.

    %2 = graph.matmul %0, %w

becomes

    %h = graph.cast %0 : f32 to f16          where it is none yet
    %x = graph.cast %h : f16 to f32
    %2 = graph.matmul %x, %w'                w' rounded to f16
    %s = graph.cast %2 : f32 to f16
    %r = graph.cast %s : f16 to f32          for those that read it

graph-half-products makes of it what the array does.
"""

from __future__ import annotations

import numpy as np
from xdsl.ir import Operation, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.diagnostics import Code, warn
from npu_dialect.dtypes import DType
from npu_dialect.graph.base import dtype_of
from npu_dialect.passes.quantizing.ranges import Range
from npu_dialect.passes.rewriting import Array, constant, constant_like

MOVES = (graph.ReshapeOp, graph.TransposeOp, graph.SliceOp, graph.BroadcastToOp)
GREATEST_F16 = 65504.0
"""Greater numbers become infinite."""


def rounded(array: Array, half: DType) -> Array:
    """The nearest halves, as f32."""
    with np.errstate(over="ignore"):
        return array.astype(half.numpy).astype(np.float32)


def stored(value: SSAValue, half: DType, found: Range) -> SSAValue:
    """Puts a cast to halves and one back behind an operation's result, for all that reads it; the
    last one's result. Warns of a range that f16 does not hold.
    """
    owner = value.owner
    assert isinstance(owner, Operation) and owner.parent is not None
    if half is dtypes.f16 and found.is_finite and max(-found.low, found.high) > GREATEST_F16:
        warn(
            Code.SATURATION,
            f"the values of a tensor of f16 must be at most {GREATEST_F16:g} in magnitude",
            found=f"{found.low:.4g} to {found.high:.4g}",
            remedy="bfloat16 or float32 for the layer",
            source=owner,
        )
    narrow, wide = _casts(value, half, owner)
    owner.parent.insert_ops_after([narrow, wide], owner)
    value.replace_uses_with_if(wide.result, lambda use: use.operation is not narrow)
    return wide.result


def narrow_operands(op: graph.Conv2DOp | graph.MatmulOp, half: DType) -> None:
    """The two factors of a contraction become halves, where they are none."""
    block = op.parent
    assert block is not None
    for k, value in enumerate(op.operands[:2]):
        array = constant(value)
        if array is not None:
            made = constant_like(value, rounded(array, half))
            block.insert_op_before(made, op)
            op.operands[k] = made.result
        elif not _is_half(value, half):
            casts = _casts(value, half, op)
            block.insert_ops_before(casts, op)
            op.operands[k] = casts[1].result


def _is_half(value: SSAValue, half: DType) -> bool:
    while isinstance(value.owner, MOVES):
        value = value.owner.operands[0]
    return isinstance(value.owner, graph.CastOp) and dtype_of(value.owner.x) is half


def _casts(value: SSAValue, half: DType, at: Operation) -> tuple[graph.CastOp, graph.CastOp]:
    narrow = graph.CastOp(value, half, location=at.location)
    return narrow, graph.CastOp(narrow, dtypes.f32, location=at.location)
