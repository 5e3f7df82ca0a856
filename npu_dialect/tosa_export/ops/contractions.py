"""graph.conv2d and graph.matmul.

Weights are [KH, KW, C / groups, OC] in graph, [OC, KH, KW, C] in tosa.conv2d and [KH, KW, C, M] in
tosa.depthwise_conv2d. A product with constant weights is a convolution of 1 x 1, which has a bias.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import IntegerType, TensorType, f32, i8, i32
from xdsl.ir import Attribute, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.graph.attributes import four, pair
from npu_dialect.graph.base import dtype_of, quant_of, shape_of
from npu_dialect.graph.ranges import RULES, Ranges
from npu_dialect.tosa_export.emitter import Emitter, Refused, i48, offset
from npu_dialect.tosa_export.ops.movement import broadcast
from npu_dialect.tosa_export.ops.windows import fitted
from npu_dialect.tosa_export.registry import rule

Array = NDArray[Any]

FLOAT_SUMS = "the order in which floats are summed"


def sums_element(op: graph.Conv2DOp | graph.MatmulOp) -> Any:
    """The type of the sums in TOSA. Raises Refused for operands that it does not multiply."""
    first, second = (dtype_of(v) for v in op.operands[:2])
    if quant_of(op.operands[0]) is None:
        if first is not dtypes.f32:
            raise Refused(f"products of {first}")
        return f32
    if first.itemsize == second.itemsize == 1:
        if not -(1 << 31) <= _range(op)[0] <= _range(op)[1] < 1 << 31:
            raise Refused("sums that 32 bits cannot hold")
        return i32
    if first is dtypes.i16 and second.itemsize == 1 and isinstance(op, graph.Conv2DOp):
        return i48
    raise Refused(f"products of {first} and {second}")


def _range(op: graph.Conv2DOp | graph.MatmulOp) -> tuple[int, int]:
    return RULES[type(op)](Ranges(), op)


def zero_points(e: Emitter, op: graph.Conv2DOp | graph.MatmulOp) -> tuple[SSAValue, SSAValue]:
    """The operands that state the zero points of both operands."""
    x, w = op.operands[:2]
    if quant_of(x) is None:
        return e.fill(0.0, f32), e.fill(0.0, f32)
    zero_x, zero_w = e.zero_of(x), _weight_zero(w)
    if dtype_of(x) is dtypes.i16 and zero_x:
        raise Refused(f"activations of 16 bits with the zero point {zero_x}")
    return e.fill(zero_x, i8 if dtype_of(x).itemsize == 1 else IntegerType(16)), e.fill(zero_w, i8)


def _weight_zero(w: SSAValue) -> int:
    quant = quant_of(w)
    assert quant is not None
    zero = quant.zero()
    if not isinstance(zero, int):
        raise Refused("weights with a zero point for each channel")
    return zero - offset(quant.storage_dtype)


def weights(e: Emitter, w: SSAValue) -> Array | None:
    """The stored values of constant weights, as TOSA has them."""
    del e
    owner = w.owner
    if not isinstance(owner, graph.ConstantOp):
        return None
    if offset(dtype_of(w)):
        return (owner.array.astype(np.int16) - offset(dtype_of(w))).astype(np.int8)
    return owner.array


def bias_of(e: Emitter, bias: SSAValue | None, channels: int, element: Any) -> SSAValue:
    """The bias, or one of zeros."""
    if bias is None:
        return e.const(np.zeros(channels), element)
    if element != i48:
        return e.value(bias)
    owner = bias.owner
    if not isinstance(owner, graph.ConstantOp) or np.abs(owner.array).max(initial=0) >= 1 << 47:
        raise Refused("a bias of 64 bits")
    return e.const(owner.array, i48)


@rule(graph.Conv2DOp)
def conv2d(e: Emitter, op: graph.Conv2DOp) -> SSAValue:
    """One convolution, a depthwise one, or one for each group."""
    element, groups = sums_element(op), op.groups.value.data
    if element == f32:
        e.open(FLOAT_SUMS)
    strides, dilations = pair(op.strides), pair(op.dilations)
    kh, kw, depth, channels = shape_of(op.w)
    x, pad = fitted(e, e.value(op.x), (kh, kw), strides, dilations, four(op.pads))
    properties = {"pad": pad, "stride": strides, "dilation": dilations, "acc_type": element}
    zeros = zero_points(e, op)
    bias = bias_of(e, op.bias, channels, element)
    shape = shape_of(op.result)
    if groups == 1:
        w = _laid_out(e, op.w, (3, 0, 1, 2))
        return e.op("conv2d", (x, w, bias, *zeros), TensorType(element, shape), **properties)
    if depth == 1:
        w = _reshaped(e, op.w, (kh, kw, groups, channels // groups))
        operands = (x, w, bias, *zeros)
        return e.op("depthwise_conv2d", operands, TensorType(element, shape), **properties)
    parts: list[SSAValue] = []
    each, size = shape_of(x)[3] // groups, channels // groups
    for k in range(groups):
        part = e.slice(x, (0, 0, 0, k * each), (*shape_of(x)[:3], each))
        w = _laid_out(e, op.w, (3, 0, 1, 2), slice(k * size, (k + 1) * size))
        some = e.slice(bias, (k * size,), (size,))
        type = TensorType(element, (*shape[:3], size))
        parts.append(e.op("conv2d", (part, w, some, *zeros), type, **properties))
    return e.op("concat", parts, TensorType(element, shape), axis=3)


def _laid_out(
    e: Emitter, w: SSAValue, order: tuple[int, ...], channels: slice = slice(None)
) -> SSAValue:
    """Weights with their dimensions in another order, of some of the output channels."""
    array = weights(e, w)
    if array is not None:
        return e.const(np.transpose(array[..., channels], order), _element(w))
    if channels != slice(None):
        raise Refused("groups of weights that are computed at run time")
    return e.transpose(e.value(w), order)


def _reshaped(e: Emitter, w: SSAValue, shape: tuple[int, ...]) -> SSAValue:
    array = weights(e, w)
    if array is not None:
        return e.const(array.reshape(shape), _element(w))
    return e.reshape(e.value(w), shape)


def _element(w: SSAValue) -> Attribute:
    return f32 if quant_of(w) is None else i8


@rule(graph.MatmulOp)
def matmul(e: Emitter, op: graph.MatmulOp) -> SSAValue:
    """A convolution of 1 x 1 with constant weights, else a product of batches."""
    element, array = sums_element(op), weights(e, op.b)
    if element == f32:
        e.open(FLOAT_SUMS)
    if array is not None and array.ndim == 2:
        return _by_convolution(e, op, array, element)
    *left, rows, depth = shape_of(op.a)
    *right, _, columns = shape_of(op.b)
    batch = np.broadcast_shapes(tuple(left), tuple(right))
    count = prod(batch)
    a = e.reshape(_repeated(e, e.value(op.a), batch), (count, rows, depth))
    b = e.reshape(_repeated(e, e.value(op.b), batch), (count, depth, columns))
    zeros = zero_points(e, op)
    found = e.op("matmul", (a, b, *zeros), TensorType(element, (count, rows, columns)))
    if op.bias is not None:
        found = e.spread("add", found, bias_of(e, op.bias, columns, element))
    return e.reshape(found, shape_of(op.result))


def _repeated(e: Emitter, x: SSAValue, batch: tuple[int, ...]) -> SSAValue:
    """x [..., M, N] with the leading dimensions `batch`."""
    return broadcast(e, x, (*batch, *shape_of(x)[-2:]))


def _by_convolution(e: Emitter, op: graph.MatmulOp, array: Array, element: Any) -> SSAValue:
    """[..., M, K] times constant [K, N] as a convolution of M images of one position."""
    depth, columns = array.shape
    rows = prod(shape_of(op.a)[:-1])
    x = e.reshape(e.value(op.a), (rows, 1, 1, depth))
    w = e.const(array.T.reshape(columns, 1, 1, depth), _element(op.b))
    operands = (x, w, bias_of(e, op.bias, columns, element), *zero_points(e, op))
    found = e.op(
        "conv2d", operands, TensorType(element, (rows, 1, 1, columns)),
        pad=(0, 0, 0, 0), stride=(1, 1), dilation=(1, 1), acc_type=element,
    )  # fmt: skip
    return e.reshape(found, shape_of(op.result))
