"""graph-fuse-batch-norm: a scale and shift by channel after a convolution goes into its weights.

    %1 = graph.conv2d %x, %w, %b {...} : (..., tensor<3x3x4x8xf32>, tensor<8xf32>) -> ...
    %2 = graph.batch_norm %1, %scale, %bias, %mean, %variance {axis = 3, epsilon = 1.0e-05 : f32}

becomes, with s = scale / sqrt(variance + epsilon),

    %2 = graph.conv2d %x, %w', %b' {...}     w' = w * s,  b' = (b - mean) * s + bias

Also a multiplication by, or an addition of, constants by channel; after a matrix product too. A
batch_norm elsewhere becomes a multiplication and an addition. f32 only. The new constants are
computed in double precision and rounded once; results may differ from the model's in the last bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter

from npu_dialect import graph, provenance
from npu_dialect.graph.attributes import values
from npu_dialect.graph.base import shape_of
from npu_dialect.passes.rewriting import (
    Array,
    Rules,
    constant,
    constant_like,
    float_constant,
    location_of,
    replace,
    rewrite,
)

Contraction = graph.Conv2DOp | graph.MatmulOp


@dataclass(frozen=True)
class GraphFuseBatchNormPass(ModulePass):
    """Fold scales and shifts by channel into weights and biases."""

    name = "graph-fuse-batch-norm"

    keeps_bits: ClassVar[bool] = False
    """New constants are rounded once; results may differ in the last bits."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        rewrite(op, FOLD)
        rewrite(op, SPLIT)


def fold_batch_norm(op: graph.BatchNormOp, rewriter: PatternRewriter) -> None:
    """batch_norm after a contraction."""
    factors = _factors(op)
    if factors is not None and op.axis.value.data == len(shape_of(op.x)) - 1:
        _fold(op, op.x, *factors, rewriter)


def _factors(op: graph.BatchNormOp) -> tuple[Array, Array] | None:
    """Scale and shift by channel, in double precision; None unless all parameters are constant."""
    arrays = [constant(v) for v in op.operands[1:]]
    wide = [a.astype(np.float64) for a in arrays if a is not None]
    if len(wide) < len(arrays):
        return None
    scale, bias, mean, variance = wide
    factor = scale / np.sqrt(variance + float(np.float32(op.epsilon.value.data)))
    return factor, bias - mean * factor


def fold_scale(op: graph.MulOp | graph.DivOp, rewriter: PatternRewriter) -> None:
    """Multiplication (or division) by constants after a contraction."""
    for value, other in _pairs(op, commutes=isinstance(op, graph.MulOp)):
        row = _row(other, value)
        if row is not None and value.type == op.type:
            with np.errstate(divide="ignore"):
                factor = 1 / row if isinstance(op, graph.DivOp) else row
            if np.isfinite(factor).all() and _fold(op, value, factor, 0.0 * row, rewriter):
                return


def fold_shift(op: graph.AddOp | graph.SubOp, rewriter: PatternRewriter) -> None:
    """Addition (or subtraction) of constants after a contraction."""
    for value, other in _pairs(op, commutes=isinstance(op, graph.AddOp)):
        row = _row(other, value)
        if row is not None and value.type == op.type:
            shift = -row if isinstance(op, graph.SubOp) else row
            if _fold(op, value, None, shift, rewriter):
                return


def _pairs(
    op: graph.MulOp | graph.DivOp | graph.AddOp | graph.SubOp, commutes: bool
) -> list[tuple[SSAValue, SSAValue]]:
    return [(op.lhs, op.rhs), (op.rhs, op.lhs)] if commutes else [(op.lhs, op.rhs)]


def _row(value: SSAValue, beside: SSAValue) -> Array | None:
    """[channels] of `beside`, double: a constant that is one number, or one per channel."""
    array, channels = constant(value), (shape_of(beside) or (1,))[-1]
    if array is None or array.dtype != np.float32:
        return None
    if array.size == 1 or array.shape[-1] == array.size == channels:
        return np.broadcast_to(array.reshape(-1), channels).astype(np.float64)
    return None


def _fold(
    op: Operation, value: SSAValue, factor: Array | None, shift: Array, rewriter: PatternRewriter
) -> bool:
    """Put `factor` and `shift` into the contraction before `op`; whether that could be done."""
    old = value.owner
    if not isinstance(old, Contraction) or not value.has_one_use():
        return False
    weights = constant(old.operands[1])
    bias = constant(old.bias) if old.bias is not None else np.zeros(1)
    if weights is None or bias is None or weights.dtype != np.float32:
        return False
    new_bias = _rounded(bias.astype(np.float64) * (1 if factor is None else factor) + shift)
    location = op.location if old.bias is None else location_of(old.bias)
    b = graph.ConstantOp(new_bias, location=location)
    made: list[Operation] = [b]
    w = old.operands[1]
    if factor is not None:
        scaled = constant_like(w, _rounded(weights.astype(np.float64) * factor))
        made.append(scaled)
        w = scaled.result
    new = _with_weights(old, w, b)
    replace(rewriter, op, *made, new)
    return True


def _rounded(array: Array) -> Array:
    return array.astype(np.float32)


def _with_weights(old: Contraction, w: SSAValue, b: graph.ConstantOp) -> Contraction:
    if isinstance(old, graph.MatmulOp):
        return graph.MatmulOp(old.a, w, b, location=old.location)
    return graph.Conv2DOp(
        old.x,
        w,
        b,
        strides=values(old.strides),
        pads=values(old.pads),
        dilations=values(old.dilations),
        groups=old.groups.value.data,
        location=old.location,
    )


def split_batch_norm(op: graph.BatchNormOp, rewriter: PatternRewriter) -> None:
    """batch_norm elsewhere: x * s + (bias - mean * s)."""
    factors = _factors(op)
    if factors is None:
        return
    shape = [1] * len(shape_of(op.x))
    shape[op.axis.value.data] = -1
    parts = (op.scale, op.bias, op.mean, op.variance)
    location = provenance.fuse(*map(location_of, parts), op)
    scale, shift = (float_constant(_rounded(f).reshape(shape), op) for f in factors)
    scale.location = shift.location = location
    product = graph.MulOp(op.x, scale, location=op.location)
    replace(rewriter, op, scale, shift, product, graph.AddOp(product, shift, location=op.location))


FOLD: Rules = {
    graph.BatchNormOp: [fold_batch_norm],
    graph.MulOp: [fold_scale],
    graph.DivOp: [fold_scale],
    graph.AddOp: [fold_shift],
    graph.SubOp: [fold_shift],
}
SPLIT: Rules = {graph.BatchNormOp: [split_batch_norm]}
