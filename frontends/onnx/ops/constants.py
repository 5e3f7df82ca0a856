"""Operators whose result is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import SparseTensorProto, TensorProto

from npu_dialect.frontends.onnx import tensors
from npu_dialect.frontends.onnx.errors import check_shape
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    Misfit,
    NotExpressible,
    SSAValue,
    shape_of,
)
from npu_dialect.frontends.onnx.registry import op


@op("Constant")
def constant(
    b: Builder,
    *,
    value: TensorProto | None,
    sparse_value: SparseTensorProto | None = None,
    value_float: float | None = None,
    value_floats: Sequence[float] | None = None,
    value_int: int | None = None,
    value_ints: Sequence[int] | None = None,
    value_string: str | None = None,
    value_strings: Sequence[str] | None = None,
) -> SSAValue:
    """A constant stated by one of the attributes."""
    source = b.source
    if value is not None:
        return b.constant(tensors.array_of(value, source))
    if sparse_value is not None:
        return b.constant(tensors.dense(sparse_value))
    if value_string is not None or value_strings is not None:
        raise NotExpressible("a constant of strings")
    floats = value_float if value_float is not None else value_floats
    if floats is not None:
        return b.constant(np.array(floats, np.float32))
    whole = value_int if value_int is not None else value_ints
    if whole is None:
        raise Misfit("a constant without a value")
    return b.constant(np.array(whole, np.int64))


@op("ConstantOfShape")
def constant_of_shape(b: Builder, shape: SSAValue, *, value: TensorProto | None) -> SSAValue:
    """A broadcast of the value, folded unless it is large."""
    array: Any = np.zeros(1, np.float32)
    if value is not None:
        array = tensors.array_of(value, b.source)
    wanted = b.ints(shape, "the shape")
    check_shape(wanted, array.itemsize, b.source)
    return common.broadcast(b, b.constant(array.reshape(())), wanted)


@op("Range")
def arange(
    b: Builder, start: SSAValue, limit: SSAValue, delta: SSAValue, *, stash_type: int = 1
) -> SSAValue:
    """start, start + delta, ... before limit, all known; `stash_type` concerns 16-bit floats."""
    if stash_type != 1 and common.dtype_of(start).is_float:
        raise NotExpressible("a Range computed in a stated type")
    first, last, step = (
        b.known(value, what).reshape(())
        for value, what in ((start, "start"), (limit, "limit"), (delta, "delta"))
    )
    if step == 0:
        raise Misfit("a Range with a step of 0")
    exact = float if np.issubdtype(first.dtype, np.floating) else int
    count = -((exact(first) - exact(last)) // exact(step))
    size = max(int(count), 0) if np.isfinite(count) else -1
    b.reserve(size)
    return b.constant((first + np.arange(size, dtype=first.dtype) * step).astype(first.dtype))


@op("EyeLike")
def eye_like(b: Builder, x: SSAValue, *, dtype: int | None, k: int) -> SSAValue:
    """Ones on the k-th diagonal of a matrix of the shape of `x`."""
    rows, columns = shape_of(x)
    b.reserve(rows, columns)
    kind = tensors.dtype_of(dtype, b.source) if dtype else common.dtype_of(x)
    return b.constant(np.eye(rows, columns, k, dtype=kind.numpy))
