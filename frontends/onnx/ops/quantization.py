"""QuantizeLinear and DequantizeLinear, and the conversion to and from quantized types."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import TensorType
from xdsl.ir import BlockArgument
from xdsl.rewriter import Rewriter

from npu_dialect import dtypes, graph
from npu_dialect.diagnostics import Code, warn
from npu_dialect.dtypes import DType
from npu_dialect.frontends.onnx import tensors
from npu_dialect.frontends.onnx.builder import is_quantized
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    NotExpressible,
    SSAValue,
    dtype_of,
    element_of,
    shape_of,
)
from npu_dialect.frontends.onnx.registry import MICROSOFT, op
from npu_dialect.frontends.onnx.widen import plain
from npu_dialect.graph.quant import QuantType, uniform

Array = NDArray[Any]

UNIT = graph.requant_f32(1.0)
"""The recipe that keeps the number and changes its zero point."""


def quant_type(
    b: Builder,
    storage: DType,
    scale: SSAValue,
    zero: SSAValue | None,
    rank: int,
    axis: int,
) -> QuantType:
    """The element type of known parameters; NotExpressible if they are not, or in blocks."""
    if dtype_of(scale) is not dtypes.f32:
        raise NotExpressible(f"a scale of type {dtype_of(scale)}")
    scales = b.known(scale, "a scale")
    zeros = np.zeros(1, np.int64) if zero is None else b.known(zero, "a zero point")
    if scales.size == 1 and zeros.size == 1:
        return uniform(storage, scales.reshape(-1), zeros.astype(np.int64))
    if scales.ndim != 1:
        raise NotExpressible("a scale for each block")
    return uniform(storage, scales, zeros.astype(np.int64), axis=common.normalize_axis(axis, rank))


def quantized(b: Builder, x: SSAValue, element: QuantType) -> SSAValue:
    """The integers `x` as a tensor of quantized type; no number changes."""
    if element_of(x) == element:
        return x
    array = b.array(x)
    if array is not None:
        return b.constant(array, element)
    if isinstance(x, BlockArgument) and not x.uses.get_length():
        return Rewriter.replace_value_with_new_type(x, TensorType(element, shape_of(x)))
    return renumbered(b, x, element)


def renumbered(b: Builder, x: SSAValue, element: QuantType) -> SSAValue:
    """The same for integers of run time, by an operation that keeps them."""
    if element.axis is not None or element.storage_dtype.itemsize > 1:
        raise NotExpressible("a run-time tensor with several scales or of more than 8 bits")
    number = plain(b, x)
    assert number is not None
    number = common.cast(b, number, dtypes.i32)
    offset = b.scalar(element.zero_point, number)
    return b.emit(graph.RequantizeOp(common.sub(b, number, offset), UNIT, element))


@op("QuantizeLinear", storage=True)
@op("QuantizeLinear", domain=MICROSOFT, storage=True)
def quantize_linear(
    b: Builder,
    x: SSAValue,
    scale: SSAValue,
    zero: SSAValue | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> SSAValue:
    """`saturate` concerns 8-bit floats only."""
    del saturate
    storage = dtype_of(zero) if zero is not None else dtypes.u8
    if zero is None and output_dtype:
        storage = tensors.dtype_of(output_dtype, b.source)
    if precision not in (0, tensors.code_of(dtypes.f32)) and dtype_of(x) is not dtypes.f32:
        raise NotExpressible("division in a stated precision")
    real = common.cast(b, x, dtypes.f32)
    try:
        element = quant_type(b, storage, scale, zero, len(shape_of(x)), axis)
        return b.emit(graph.QuantizeOp(real, element))
    except (NotExpressible, ValueError):
        return _quantize(b, real, scale, zero, storage, axis, block_size)


def _quantize(
    b: Builder,
    x: SSAValue,
    scale: SSAValue,
    zero: SSAValue | None,
    storage: DType,
    axis: int,
    block_size: int,
) -> SSAValue:
    """The same by arithmetic, for parameters that a type cannot state."""
    if _is_endless(b, scale, zero):
        return b.constant(np.zeros(shape_of(x), storage.numpy))
    steps = b.emit(graph.RoundOp(common.div(b, x, _spread(b, scale, x, axis, block_size))))
    if zero is not None:
        steps = common.add(b, steps, _spread(b, zero, x, axis, block_size))
    return common.cast(b, steps, storage)


def _is_endless(b: Builder, scale: SSAValue, zero: SSAValue | None) -> bool:
    """Whether every quotient by the scale is 0 or NaN, which both give 0: quantizers that saw an
    infinite number, in a mask mostly, write such a scale.
    """
    known = b.array(scale)
    zeros = np.zeros(1) if zero is None else b.array(zero)
    if known is None or zeros is None or zeros.any() or not np.isinf(known).all():
        return False
    warn(
        Code.DEGENERATE,
        "a scale must be finite to tell numbers apart",
        found="inf: all of the tensor is 0, as in onnxruntime",
        remedy="a finite number in place of infinity, in the mask, before the model is quantized",
        source=b.source,
    )
    return True


@op("DequantizeLinear", storage=True)
@op("DequantizeLinear", domain=MICROSOFT, storage=True)
def dequantize_linear(
    b: Builder,
    x: SSAValue,
    scale: SSAValue,
    zero: SSAValue | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> SSAValue:
    """(x - zero) * scale; by arithmetic where a type cannot state the parameters."""
    try:
        element = quant_type(b, dtype_of(x), scale, zero, len(shape_of(x)), axis)
        real = b.emit(graph.DequantizeOp(quantized(b, x, element)))
    except (NotExpressible, ValueError):
        real = _dequantize(b, x, scale, zero, axis, block_size)
    wanted = dtype_of(scale)
    if output_dtype:
        wanted = tensors.dtype_of(output_dtype, b.source)
    return common.cast(b, real, wanted)


def _dequantize(
    b: Builder,
    x: SSAValue,
    scale: SSAValue,
    zero: SSAValue | None,
    axis: int,
    block_size: int,
) -> SSAValue:
    number = plain(b, x)
    assert number is not None
    number = common.cast(b, number, dtypes.i32)
    if zero is not None:
        offset = common.cast(b, _plain(b, zero), dtypes.i32)
        number = common.sub(b, number, _placed(b, offset, x, axis, block_size))
    real = common.cast(b, number, dtypes.f32)
    return common.mul(b, real, _spread(b, scale, x, axis, block_size))


def _plain(b: Builder, x: SSAValue) -> SSAValue:
    found = plain(b, x) if is_quantized(x) else x
    assert found is not None
    return found


def _spread(b: Builder, p: SSAValue, x: SSAValue, axis: int, block_size: int) -> SSAValue:
    """A parameter in f32, in a shape that broadcasts against `x`."""
    return _placed(b, common.cast(b, _plain(b, p), dtypes.f32), x, axis, block_size)


def _placed(b: Builder, p: SSAValue, x: SSAValue, axis: int, block_size: int) -> SSAValue:
    """One value, one per index of `axis`, or one per block of `block_size` along it."""
    shape, rank = shape_of(p), len(shape_of(x))
    if np.prod(shape) == 1:
        return common.reshape(b, p, ())
    axis = common.normalize_axis(axis, rank)
    if len(shape) == 1 and not block_size:
        return common.reshape(b, p, [shape[0] if k == axis else 1 for k in range(rank)])
    if len(shape) != rank or block_size < 1:
        raise NotExpressible(f"parameters of shape {list(shape)} for {list(shape_of(x))}")
    apart = common.reshape(b, p, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    full = (*shape[: axis + 1], block_size, *shape[axis + 1 :])
    whole = (*shape[:axis], shape[axis] * block_size, *shape[axis + 1 :])
    spread = common.reshape(b, common.broadcast(b, apart, full), whole)
    return common.along(b, spread, axis, 0, shape_of(x)[axis])
