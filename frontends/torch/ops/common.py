"""What importers of several topics use: short forms of graph ops, and torch's rules of types.

The short forms are those of the ONNX importer; this is the only place that knows that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.dtypes import DType
from npu_dialect.frontends.onnx.builder import dtype_of, element_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import (
    add,
    along,
    as_image,
    broadcast,
    cast,
    concat,
    div,
    from_image,
    iota,
    mul,
    normalize_axes,
    normalize_axis,
    pad,
    reduce,
    reshape,
    scaled,
    squeeze,
    sub,
    transpose,
    where,
    window,
)
from npu_dialect.frontends.onnx.ops.convolution import Windows, conv_transpose, convolve, windows
from npu_dialect.frontends.onnx.ops.linear import product
from npu_dialect.frontends.onnx.ops.pooling import average, ceiled, max_of_taps, pooled
from npu_dialect.frontends.onnx.ops.sorting import top
from npu_dialect.frontends.torch.builder import Builder

__all__ = [
    "Builder",
    "Misfit",
    "NotExpressible",
    "Number",
    "Operand",
    "SSAValue",
    "Windows",
    "add",
    "along",
    "as_image",
    "average",
    "broadcast",
    "cast",
    "ceiled",
    "compare",
    "concat",
    "conv_transpose",
    "convolve",
    "div",
    "dtype_of",
    "element_of",
    "from_image",
    "iota",
    "max_of_taps",
    "mul",
    "normalize_axes",
    "normalize_axis",
    "operand",
    "pad",
    "pooled",
    "product",
    "promoted",
    "reduce",
    "reshape",
    "scaled",
    "shape_of",
    "squeeze",
    "sub",
    "top",
    "transpose",
    "truth",
    "unary",
    "where",
    "window",
    "windows",
    "wrapped",
]

Number = int | float | bool
Operand = SSAValue | Number

_ORDER = {"bool": 0, "int": 1, "float": 2}


def operand(b: Builder, x: Operand, dtype: DType) -> SSAValue:
    """A tensor or number as a tensor of `dtype`."""
    if isinstance(x, SSAValue):
        return cast(b, x, dtype)
    return b.constant(np.array(x).astype(dtype.numpy))


def promoted(x: Operand, y: Operand) -> DType:
    """The type in which torch combines two operands (its `result_type`)."""
    ranked = sorted((_rank(x), _rank(y)), key=lambda r: r[:3])
    return ranked[-1][3]


def _rank(x: Operand) -> tuple[int, int, int, DType]:
    """A category counts first, then tensors before scalars and numbers, then the width."""
    if isinstance(x, SSAValue):
        dtype = dtype_of(x)
        return _ORDER[dtype.kind], 2 if shape_of(x) else 1, dtype.itemsize, dtype
    kinds = {bool: dtypes.bool_, int: dtypes.i64, float: dtypes.f32}
    dtype = kinds[type(x)]
    return _ORDER[dtype.kind], 0, 0, dtype


def compare(b: Builder, operation: type[Any], x: Operand, y: Operand) -> SSAValue:
    """A comparison of two operands in the type that both have."""
    dtype = promoted(x, y)
    return b.emit(operation(operand(b, x, dtype), operand(b, y, dtype)))


def truth(b: Builder, x: SSAValue) -> SSAValue:
    """Whether each element differs from 0."""
    if dtype_of(x) is dtypes.bool_:
        return x
    return b.emit(graph.NeOp(x, b.scalar(0, x)))


def unary(b: Builder, operation: type[Any], x: SSAValue) -> SSAValue:
    """A function of one operand, in the type of the result."""
    return b.emit(operation(cast(b, x, b.dtype)))


def wrapped(dims: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Dimensions from the front, ascending; all of them for None or an empty list."""
    if dims is None or dims == []:
        return tuple(range(rank))
    dims = [dims] if isinstance(dims, int) else dims
    return normalize_axes(dims, rank) if rank else ()
